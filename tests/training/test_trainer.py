"""The training loop: equal to a loop by hand, resumed exactly, stopped safely."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from llmlib.core.batch import Batch, count_targets
from llmlib.training import Schedule, TrainConfig, Trainer, accumulation, adamw, next_token_loss
from llmlib.training.checkpointing.files import checkpoints, latest
from llmlib.training.metrics import read_metrics
from llmlib.training.objectives.auxiliary import add_auxiliary

Build = Callable[..., Trainer]


def losses(trainer: Trainer) -> list[float]:
    return [line["loss"] for line in read_metrics(trainer.folder / "metrics.jsonl")]


def weights(trainer: Trainer) -> torch.Tensor:
    return nn.utils.parameters_to_vector(trainer.model.parameters()).detach()


class Stopping:
    """Batches that press Ctrl-C when a given one is read."""

    def __init__(self, batches: Any, at: int) -> None:
        self.batches, self.at = batches, at
        self.state_dict, self.load_state_dict = batches.state_dict, batches.load_state_dict

    def __next__(self) -> Any:
        self.at -= 1
        if self.at == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return next(self.batches)


def joined(batches: list[Batch]) -> Batch:
    """Return several batches as one."""
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def test_the_loop_equals_one_written_out(new_trainer: Build) -> None:
    trainer = new_trainer(clip=0.1)
    reference = new_trainer("reference")  # for its model and batches only
    trainer.run()
    model, batches = reference.model, reference.batches
    optimizer = adamw(model, 1e-2)
    torch.manual_seed(0)
    expected = []
    for step in range(1, 12):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * trainer.config.schedule.factor(step, 11)
        loss = next_token_loss(model, next(batches))  # pyright: ignore[reportArgumentType]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert losses(trainer) == expected
    assert torch.equal(weights(trainer), weights(reference))


@pytest.mark.covers("train.batch")
def test_accumulated_equals_large_batch_with_unequal_targets(new_trainer: Build) -> None:
    class Joined:
        """Three small batches as one large."""

        def __init__(self, small: Any) -> None:
            self.small = small
            self.state_dict = small.state_dict
            self.load_state_dict = small.load_state_dict

        def __next__(self) -> Any:
            parts = [next(self.small) for _ in range(3)]
            return joined(parts)

    def exact(model: Any, batch: Any) -> torch.Tensor:
        return cross_entropy(model(batch["inputs"]).flatten(0, 1), batch["targets"].flatten())

    parts = new_trainer("parts", model={"dropout": 0.0}, accumulate=3, loss_fn=exact)
    whole = new_trainer("whole", model={"dropout": 0.0}, loss_fn=exact)
    whole.batches = Joined(whole.batches)
    for trainer in (parts, whole):
        # Adam divides by a gradient's size: where it is almost zero, float32 leaves rounding alone.
        trainer.model.double()
        trainer.run()
    torch.testing.assert_close(losses(parts), losses(whole), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights(parts), weights(whole), atol=1e-5, rtol=0)


MOE = {"n_experts": 5, "dropout": 0.0, "balance_weight": 0.5}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("explicit", [False, True])
def test_the_loss_of_experts_is_in_nats_and_the_balance_apart(
    new_trainer: Build, accumulate: int, explicit: bool
) -> None:
    chosen = {"loss_fn": lambda model, batch: next_token_loss(model, batch)} if explicit else {}
    trainer = new_trainer(model=MOE, accumulate=accumulate, **chosen)
    source = new_trainer("unused").batches
    batches = [next(source) for _ in range(accumulate)]
    counts = [count_targets(batch) for batch in batches]
    model: Any = trainer.model
    nats, balance = [], []
    for batch in batches:
        nats.append(next_token_loss(model.eval(), batch).item())
        next_token_loss(model.train(), batch)
        balance.append(model.balance_loss().item())
    line = trainer.train_step()
    expected = sum(n * c for n, c in zip(nats, counts, strict=True)) / sum(counts)
    assert line["loss"] == pytest.approx(expected, abs=1e-5)
    expected = sum(n * c for n, c in zip(balance, counts, strict=True)) / sum(counts)
    assert line["auxiliary_loss"] == pytest.approx(expected, abs=1e-5)
    assert expected > 0.4, "large enough to be seen in the loss"


def test_any_loss_that_is_added_is_reported_apart(new_trainer: Build) -> None:
    def with_z_loss(model: Any, batch: Any) -> torch.Tensor:
        z_loss = 0.1 * model(batch["inputs"]).logsumexp(-1).square().mean()
        return add_auxiliary(next_token_loss(model, batch), z_loss)

    plain = new_trainer("plain", model={"dropout": 0.0})
    other = new_trainer("other", model={"dropout": 0.0}, loss_fn=with_z_loss)
    line, expected = other.train_step(), plain.train_step()
    assert not torch.equal(weights(other), weights(plain)), "it is learned all the same"
    assert line["loss"] == pytest.approx(expected["loss"], abs=1e-5)
    assert line["auxiliary_loss"] > 0.1
    assert "auxiliary_loss" not in expected
    other.held_out = plain.held_out = [next(plain.batches)]
    plain.model.load_state_dict(other.model.state_dict())
    assert other.evaluate() == pytest.approx(plain.evaluate(), abs=1e-5)


def test_a_loss_that_is_not_finite_is_noticed_in_the_auxiliary_too(new_trainer: Build) -> None:
    def broken(model: Any, batch: Any) -> torch.Tensor:
        return add_auxiliary(next_token_loss(model, batch), torch.tensor(torch.inf))

    with pytest.raises(FloatingPointError, match="loss is"):
        new_trainer(loss_fn=broken).train_step()


def test_a_step_without_targets_is_refused_and_changes_nothing(new_trainer: Build) -> None:
    trainer = new_trainer(accumulate=2)
    trainer.train_step()  # AdamW has momentum then
    before = weights(trainer)

    class Silent:
        state_dict, load_state_dict = trainer.batches.state_dict, trainer.batches.load_state_dict

        def __next__(self) -> Batch:
            return {"inputs": torch.ones(2, 5).long(), "targets": torch.full((2, 5), -100)}

    trainer.batches = Silent()
    with pytest.raises(ValueError, match="no target of step 2 counts"):
        trainer.train_step()
    assert torch.equal(weights(trainer), before)
    assert trainer.step == 1


SCHEDULES = [
    Schedule(kind=kind, warmup=warmup, decay=int(kind == "wsd"), final=final, power=2.0)
    for kind in ("constant", "linear", "cosine", "inverse_sqrt", "wsd", "polynomial")
    for warmup in (0, 1)
    for final in (0.0, 0.1)
    if (kind, warmup) not in (("inverse_sqrt", 0), ("wsd", 1))
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_run_of_one_step_learns_at_the_peak(new_trainer: Build, schedule: Schedule) -> None:
    trainer = new_trainer(steps=1, schedule=schedule)
    before = weights(trainer)
    trainer.run()
    assert not torch.equal(weights(trainer), before)
    line = read_metrics(trainer.folder / "metrics.jsonl")[-1]
    assert line["lr"] == trainer.config.lr


@pytest.mark.parametrize("total", range(1, 8))
def test_every_schedule_has_a_step_that_learns(total: int) -> None:
    for kind in ("constant", "linear", "cosine", "inverse_sqrt", "wsd", "polynomial"):
        for warmup in range(total + 1):
            decay = max(1, total - warmup) if kind == "wsd" else 0
            if (kind, warmup) == ("inverse_sqrt", 0) or warmup + decay > total:
                continue
            schedule = Schedule(kind=kind, warmup=warmup, decay=decay)
            assert max(schedule.factor(step, total) for step in range(1, total + 1)) > 0


def test_the_rate_of_an_own_optimizer_is_reported(new_trainer: Build) -> None:
    trainer = new_trainer(make_optimizer=lambda model: adamw(model, 0.5))
    line = trainer.train_step()
    assert line["lr"] == trainer.optimizer.param_groups[0]["lr"] == 0.5 / 3


@pytest.mark.covers("train.resume")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_run_continues_with_the_same_bits(new_trainer: Build, optimizer: str) -> None:
    straight = new_trainer("straight", optimizer=optimizer, accumulate=2)
    assert straight.run().finished
    first = new_trainer("broken", optimizer=optimizer, accumulate=2)
    first.batches = Stopping(first.batches, at=9)  # in the middle of step 5
    result = first.run()
    assert (result.step, result.finished) == (5, False)
    torch.rand(17)  # whatever the program does between the runs does not matter
    second = new_trainer("broken", optimizer=optimizer, accumulate=2)
    assert second.run().finished
    assert losses(second) == losses(straight)
    assert len(losses(second)) == 11
    assert torch.equal(weights(second), weights(straight))
    assert second.run().step == 11  # nothing is left to do
    assert len(losses(second)) == 11


def test_ctrl_c_says_how_to_continue(new_trainer: Build, capsys: Any) -> None:
    trainer = new_trainer(show_progress=True)
    trainer.batches = Stopping(trainer.batches, at=4)
    trainer.run()
    said = capsys.readouterr().err
    assert "stopped after step 4 of 11" in said
    assert "run the same command again to continue" in said
    assert latest(trainer.folder / "checkpoints") == trainer.folder / "checkpoints/step_00000004"


@pytest.mark.covers("train.stability")
@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_numbers_that_are_not_finite_stop_before_the_update(new_trainer: Build, kind: str) -> None:
    def poisoned(model: Any, batch: Any) -> torch.Tensor:
        loss = next_token_loss(model, batch)
        if trainer.step < 6:
            return loss
        # The root's slope at zero is infinite, its value is not.
        return loss * torch.nan if kind == "loss" else loss + (loss - loss.detach()).sqrt()

    trainer = new_trainer(loss_fn=poisoned, checkpoint_every=4)
    with pytest.raises(FloatingPointError, match="step 7"):
        trainer.run()
    assert len(losses(trainer)) == 6
    assert torch.isfinite(weights(trainer)).all()
    assert [path.name for path in checkpoints(trainer.folder / "checkpoints")] == ["step_00000004"]


def test_keeps_the_newest_and_the_best(new_trainer: Build) -> None:
    trainer = new_trainer(eval_every=1, keep=2)
    trainer.held_out = [next(trainer.batches)]
    scores = iter([5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0, 9.0, 9.5, 9.6, 9.7])

    def evaluate() -> float:
        score = next(scores)
        trainer.best_loss = min(trainer.best_loss, score)
        return score

    trainer.evaluate = evaluate
    trainer.config = trainer.config.__class__(**{**vars(trainer.config), "checkpoint_every": 5})
    trainer.run()
    names = [path.name for path in checkpoints(trainer.folder / "checkpoints")]
    assert names == ["step_00000004", "step_00000010", "step_00000011"]
    assert not list((trainer.folder / "checkpoints").glob(".*"))


def test_evaluation_weighs_targets_and_leaves_the_run_alone(new_trainer: Build) -> None:
    plain, watched = new_trainer("plain"), new_trainer("watched", eval_every=2)
    source = new_trainer("unused").batches
    watched.held_out = held_out = [next(source) for _ in range(6)]
    plain.run()
    result = watched.run()
    assert losses(plain) == losses(watched)
    model = watched.model.eval()
    expected = next_token_loss(model, joined(held_out)).item()  # pyright: ignore[reportArgumentType]
    assert result.held_out_loss == pytest.approx(expected, abs=1e-5)


def test_checkpoints_by_the_clock(new_trainer: Build) -> None:
    trainer = new_trainer(checkpoint_seconds=1e-9, keep=20)
    trainer.run()
    assert len(checkpoints(trainer.folder / "checkpoints")) == 11


def test_bfloat16_learns_as_float32_does(new_trainer: Build) -> None:
    exact, rough = (
        new_trainer("exact", steps=23),
        new_trainer("rough", steps=23, precision="bfloat16"),
    )
    exact.run()
    rough.run()
    assert losses(rough) != losses(exact)
    assert losses(rough) == pytest.approx(losses(exact), abs=0.05)
    assert all(p.dtype == torch.float32 for p in rough.model.parameters())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps=0 must be above zero"),
        ({"clip": -1.0}, "clip"),
        ({"precision": "fp8"}, "precision"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"steps": 2}, "do not fit into 2 steps"),
    ],
)
def test_settings_are_checked(wrong: dict[str, Any], message: str) -> None:
    from llmlib.training import Schedule

    settings = {"steps": 11, "schedule": Schedule(warmup=3), **wrong}
    with pytest.raises(Exception, match=message):
        TrainConfig(**settings)


def test_accumulation_counts_or_complains() -> None:
    assert accumulation(77, micro_batch=1, seq_len=11, world_size=7) == 1
    with pytest.raises(ValueError, match="not a multiple"):
        accumulation(78, micro_batch=1, seq_len=11, world_size=7)


def test_tensorboard_gets_the_numbers(new_trainer: Build, tmp_path: Path) -> None:
    new_trainer(steps=3, tensorboard=True).run()
    assert list((tmp_path / "run/tensorboard").glob("events*"))
