"""What the loop does besides: growing batches, float16's scale, and the way back from a spike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.core.batch import Batch
from llmlib.training import Trainer, next_token_loss
from llmlib.training.batches.ramp import BatchRamp
from llmlib.training.distributed import Objective
from llmlib.training.loss_scaling import LossScaler
from llmlib.training.metrics import read_metrics
from llmlib.training.stability.recovery import Recovery, lines_that_count
from llmlib.training.stability.spikes import SpikeDetector

Build = Callable[..., Trainer]
RAMP = BatchRamp(points=((0, 1), (100, 2), (500, 3)), growth="steps")


def lines(trainer: Trainer) -> list[dict[str, Any]]:
    return read_metrics(trainer.folder / "metrics.jsonl")


def weights(trainer: Trainer) -> Tensor:
    return nn.utils.parameters_to_vector(trainer.model.parameters()).detach()


@pytest.mark.covers("train.batch")
def test_a_batch_grows_by_the_tokens_learned_from(new_trainer: Build) -> None:
    trainer = new_trainer(batch_ramp=RAMP)
    trainer.run()
    seen = [0, *(line["tokens"] for line in lines(trainer))]
    assert trainer.batches.state_dict()["position"] == sum(map(RAMP.micro_batches, seen[:-1]))
    assert {RAMP.micro_batches(tokens) for tokens in seen[:-1]} == {1, 2, 3}


def test_a_ramp_goes_on_where_it_stood(new_trainer: Build) -> None:
    whole = new_trainer("whole", batch_ramp=RAMP)
    whole.run()
    cut = new_trainer("cut", batch_ramp=RAMP)
    cut._start_or_continue()
    for _ in range(5):
        cut.train_step()
    cut.save()
    resumed = new_trainer("cut", batch_ramp=RAMP)
    resumed.run()
    assert torch.equal(weights(resumed), weights(whole))


def overflowing(factor: float) -> Callable[[Any, Batch], Tensor]:
    """Return the plain loss times what its own steps overflow with."""

    def loss_fn(model: Any, batch: Batch) -> Tensor:
        loss = next_token_loss(model, batch)
        # The value stays; the gradient is multiplied.
        return loss.detach() + factor * (loss - loss.detach())

    return loss_fn


@pytest.mark.covers("train.mixed-precision")
def test_an_overflow_leaves_the_update_out_and_halves_the_scale(new_trainer: Build) -> None:
    trainer = new_trainer(precision="float16", loss_fn=overflowing(1e36))
    trainer.scaler = LossScaler(factor=1024.0)
    before = weights(trainer).clone()
    line = trainer.train_step()
    assert line["overflow"] and line["loss_scale"] == 1024 and line["tokens"] == 0
    assert "grad_norm" not in line
    assert torch.equal(weights(trainer), before) and trainer.scaler.factor == 512
    trainer.objective = Objective(trainer.model, next_token_loss)
    line = trainer.train_step()
    assert "overflow" not in line and line["step"] == 2
    assert not torch.equal(weights(trainer), before)


def test_float16_goes_on_with_its_scale(new_trainer: Build) -> None:
    whole = new_trainer("whole", precision="float16")
    cut = new_trainer("cut", precision="float16")
    for trainer in (whole, cut):
        trainer.scaler = LossScaler(factor=256.0, growth_interval=4)
    whole.run()
    cut._start_or_continue()
    for _ in range(6):
        cut.train_step()
    cut.save()
    resumed = new_trainer("cut", precision="float16")
    resumed.scaler = LossScaler(growth_interval=4)
    resumed.run()
    assert [line["loss_scale"] for line in lines(whole)] == [256.0] * 4 + [512.0] * 4 + [1024.0] * 3
    assert torch.equal(weights(resumed), weights(whole))


@pytest.mark.covers("train.mixed-precision")
def test_float16_learns_what_float32_learns(new_trainer: Build) -> None:
    # Dropout draws other masks in another format.
    runs = [
        new_trainer(kind, precision=kind, model={"dropout": 0.0}, lr=1e-3)
        for kind in ("float32", "float16")
    ]
    runs[1].scaler = LossScaler(factor=64.0)  # the first updates would overflow with 65,536
    for trainer in runs:
        trainer.run()
    for key, bound in (("loss", 1e-4), ("grad_norm", 5e-4)):
        exact, half = ([line[key] for line in lines(trainer)] for trainer in runs)
        torch.testing.assert_close(half, exact, atol=bound, rtol=0)


def poisoned(spoilt: range) -> Callable[[Any, Batch], Tensor]:
    """Return a loss that is no number on some updates, counted over the whole run."""
    calls = iter(range(10**6))

    def loss_fn(model: Any, batch: Batch) -> Tensor:
        loss = next_token_loss(model, batch)
        return loss * torch.nan if next(calls) in spoilt else loss

    return loss_fn


@pytest.mark.covers("train.stability")
@pytest.mark.parametrize("skip", [0, 2])
def test_a_loss_that_is_no_number_is_gone_back_from(
    new_trainer: Build, skip: int, tmp_path: Path
) -> None:
    recovery = Recovery(SpikeDetector(window=4, least=100.0), back=2, skip=skip)
    trainer = new_trainer(
        "guarded", loss_fn=poisoned(range(6, 7)), recovery=recovery, checkpoint_every=2, keep=3
    )
    result = trainer.run()
    assert result.finished and result.step == 11
    (event,) = [line for line in lines(trainer) if "event" in line]
    # The seventh update failed; the checkpoint two steps before it is that of step 4.
    assert (event["from_step"], event["to_step"]) == (7, 4)
    assert event["skipped_micro_batches"] == 3 + skip and event["why"] == "loss is nan"
    assert trainer.batches.state_dict()["position"] == 11 + 3 + skip
    steps = [line["step"] for line in lines_that_count(lines(trainer))]
    assert steps == list(range(1, 12))

    # The same weights as a run that never met those batches.
    clean = new_trainer("clean", checkpoint_every=2)
    clean._start_or_continue()
    for _ in range(4):
        clean.train_step()
    clean.batches.load_state_dict({"position": 7 + skip})
    for _ in range(7):
        clean.train_step()
    assert torch.equal(weights(trainer), weights(clean))


def test_a_cause_that_comes_again_ends_the_run(new_trainer: Build) -> None:
    recovery = Recovery(SpikeDetector(window=4, least=100.0), back=1, limit=2)
    trainer = new_trainer(
        loss_fn=poisoned(range(5, 100)), recovery=recovery, checkpoint_every=1, keep=3
    )
    with pytest.raises(FloatingPointError, match="after 2 returns"):
        trainer.run()
    assert all(torch.isfinite(weights(trainer)))


def test_recovery_needs_checkpoints_that_reach_back(new_trainer: Build) -> None:
    with pytest.raises(ValueError, match="raise keep or checkpoint_every"):
        new_trainer(recovery=Recovery(SpikeDetector(), back=5), checkpoint_every=2, keep=2)
