"""A run that meets a spike goes back, leaves out its data, says so, and is otherwise unchanged."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.core.batch import Batch
from llmlib.experiments.short_training import loss_on_text
from llmlib.experiments.training.planted_spikes import MARGIN, byte_text, new_run
from llmlib.training import Trainer, next_token_loss
from llmlib.training.checkpointing.files import checkpoints
from llmlib.training.metrics import read_metrics
from llmlib.training.stability.recovery import Recovery, lines_that_count
from llmlib.training.stability.spikes import SpikeDetector

Build = Callable[..., Trainer]
STEPS, EVERY, BACK, SKIP = 29, 5, 3, 2


def weights(trainer: Trainer) -> Tensor:
    return nn.utils.parameters_to_vector(trainer.model.parameters()).detach()


def log(trainer: Trainer) -> list[dict[str, Any]]:
    return read_metrics(trainer.folder / "metrics.jsonl")


class Marked:
    """Batches in the order of some numbers; what is wrong with each stands in it."""

    def __init__(self, inner: Any, wrong: dict[int, float], order: list[int] | None = None) -> None:
        self.inner, self.wrong, self.order, self.place = inner, wrong, order, 0

    def __next__(self) -> Batch:
        self.inner.position = self.place if self.order is None else self.order[self.place]
        value = self.wrong.get(self.inner.position, 0.0)
        self.place += 1
        batch = next(self.inner)
        return {**batch, "wrong": torch.full((len(batch["targets"]),), value)}

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


def loss_with_wrong(model: Any, batch: Batch) -> Tensor:
    return next_token_loss(model, batch) * (1 + batch["wrong"].mean())


def a_run(
    new_trainer: Build,
    folder: str,
    wrong: dict[int, float],
    *,
    order: list[int] | None = None,
    recovery: bool = True,
    limit: int = 3,
    **changes: Any,
) -> Trainer:
    settings = {"steps": STEPS, "checkpoint_every": EVERY, "loss_fn": loss_with_wrong, **changes}
    trainer = new_trainer(folder, **settings)
    trainer.batches = Marked(trainer.batches, wrong, order)
    if recovery:
        detector = SpikeDetector(window=8, threshold=8.0, least=1.0)
        trainer.recovery = Recovery(detector, back=BACK, skip=SKIP, limit=limit)
    return trainer


@pytest.mark.covers("train.stability")
@pytest.mark.parametrize("size", [9.0, math.nan, math.inf])
def test_it_ends_as_if_the_guilty_data_had_never_been_read(new_trainer: Build, size: float) -> None:
    # Batch 16 belongs to step 17; three steps back lies checkpoint 10. So batches 10 to 16 are
    # read in vain, and 17 and 18 left out besides.
    trainer = a_run(new_trainer, "spike", {16: size})
    result = trainer.run()
    order = [*range(10), *range(19, 60)]
    twin = a_run(new_trainer, "twin", {}, order=order, recovery=False)
    twin.run()
    assert result.finished
    assert torch.equal(weights(trainer), weights(twin))
    ours, theirs = lines_that_count(log(trainer)), log(twin)
    assert [line["loss"] for line in ours] == [line["loss"] for line in theirs]
    assert [line["tokens"] for line in ours] == [line["tokens"] for line in theirs]


@pytest.mark.covers("train.stability")
def test_the_log_says_what_was_done(new_trainer: Build) -> None:
    trainer = a_run(new_trainer, "spike", {16: 9.0})
    trainer.run()
    [event] = [line for line in log(trainer) if "event" in line]
    assert event["event"] == "rolled_back"
    assert (event["from_step"], event["to_step"], event["step"]) == (17, 10, 10)
    assert event["skipped_micro_batches"] == 7 + SKIP
    assert "above the median" in event["why"]
    at = log(trainer).index(event)
    assert [line["step"] for line in log(trainer)[at - 1 : at + 2]] == [16, 10, 11]


@pytest.mark.covers("train.stability")
def test_accumulated_batches_are_left_out_together(new_trainer: Build) -> None:
    # Two micro-batches an update: number 33 belongs to step 17.
    trainer = a_run(new_trainer, "spike", {33: 9.0}, accumulate=2)
    trainer.run()
    [event] = [line for line in log(trainer) if "event" in line]
    assert event["skipped_micro_batches"] == 2 * (7 + SKIP)
    order = [*range(20), *range(20 + 18, 100)]
    twin = a_run(new_trainer, "twin", {}, order=order, recovery=False, accumulate=2)
    twin.run()
    assert torch.equal(weights(trainer), weights(twin))


def test_a_long_fault_takes_several_returns_to_the_same_checkpoint(new_trainer: Build) -> None:
    trainer = a_run(new_trainer, "spike", dict.fromkeys(range(16, 22), 9.0))
    trainer.run()
    events = [line for line in log(trainer) if "event" in line]
    # 16 is read and two left out; 19, and two left out; then they are past it.
    assert [(e["from_step"], e["to_step"]) for e in events] == [(17, 10), (11, 10)]
    assert [e["skipped_micro_batches"] for e in events] == [9, 3]


@pytest.mark.covers("train.stability")
def test_a_cause_that_is_not_in_the_data_ends_the_run_at_the_limit(new_trainer: Build) -> None:
    trainer = a_run(new_trainer, "spike", dict.fromkeys(range(16, 60), 9.0), limit=2)
    with pytest.raises(FloatingPointError, match="after 2 returns already: the cause is not in"):
        trainer.run()
    assert len([line for line in log(trainer) if "event" in line]) == 2


class KilledError(Exception):
    """In the place of a signal that leaves no time to save."""


@pytest.mark.covers("train.stability")
@pytest.mark.parametrize("updates", [12, 17, 18, 24])
def test_killed_and_continued_it_is_the_same_to_the_last_bit(
    new_trainer: Build, updates: int
) -> None:
    """Whether killed before the spike, right before or after the return, or long after.

    After the return the guilty batches are not met again: its checkpoint knows the place behind.
    """
    whole = a_run(new_trainer, "whole", {16: 9.0})
    whole.run()
    first = a_run(new_trainer, "parts", {16: 9.0})
    step, left = first._step_or_go_back, updates - 1

    def dying() -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        return step()

    first._step_or_go_back = dying  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KilledError):
        first.run()
    if updates == 18:
        newest = checkpoints(first.folder / "checkpoints")[-1]
        assert newest.name == "step_00000010", "the checkpoint of step 15 is gone"
    second = a_run(new_trainer, "parts", {16: 9.0})
    assert second.run().finished
    assert torch.equal(weights(second), weights(whole))
    assert len([line for line in log(second) if "event" in line]) == 1
    assert [line["loss"] for line in lines_that_count(log(second))] == [
        line["loss"] for line in lines_that_count(log(whole))
    ]


def test_a_run_without_spikes_is_the_run_without_recovery(new_trainer: Build) -> None:
    watched, plain = (
        a_run(new_trainer, str(recovery), {}, recovery=recovery) for recovery in (True, False)
    )
    watched.run()
    plain.run()
    assert torch.equal(weights(watched), weights(plain))
    assert not [line for line in log(watched) if "event" in line]


def test_a_spike_of_the_first_steps_goes_back_to_the_start(new_trainer: Build) -> None:
    trainer = a_run(new_trainer, "spike", {1: math.nan})
    trainer.run()
    [event] = [line for line in log(trainer) if "event" in line]
    assert (event["from_step"], event["to_step"]) == (2, 0)
    assert event["why"] == "loss is nan"


@pytest.mark.parametrize("every, keep", [(0, 2), (5, 1), (2, 2)])
def test_checkpoints_that_cannot_reach_back_are_refused_at_once(
    new_trainer: Build, every: int, keep: int
) -> None:
    recovery = Recovery(SpikeDetector(), back=3)
    with pytest.raises(ValueError, match="need not reach so far"):
        recovery.require(checkpoint_every=every, keep=keep)
    recovery.require(checkpoint_every=5, keep=2)


@pytest.mark.parametrize("settings", [{"back": 0}, {"skip": -1}, {"limit": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Recovery(SpikeDetector(), **settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.covers("train.stability")
@pytest.mark.parametrize("seed", [211, 223])
def test_planted_spikes_are_survived_on_text(tmp_path: Path, seed: int) -> None:
    """The experiment's runs, smaller: without a way back both faults cost more than the margin."""
    loss: dict[tuple[str, str], float] = {}
    for fault, defence in [
        ("clean", "none"),
        ("broken data", "none"),
        ("broken data", "go back"),
        ("burst", "go back"),
    ]:
        trainer = new_run(fault, defence, seed, tmp_path / fault / defence, steps=60, at=45)
        trainer.run()
        text: Any = trainer.model.eval()
        loss[fault, defence] = loss_on_text(text, byte_text().held_out, rows=128, length=32)
        events = [line for line in log(trainer) if "event" in line]
        assert bool(events) == (defence == "go back")
        assert all(event["from_step"] >= 45 or event["to_step"] >= 30 for event in events)
    clean = loss["clean", "none"]
    assert loss["broken data", "none"] > clean + 2 * MARGIN
    assert loss["broken data", "go back"] < clean + MARGIN
    assert loss["burst", "go back"] < clean + MARGIN
