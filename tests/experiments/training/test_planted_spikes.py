"""What is planted in the runs, and that it is the only thing that differs from the twin's."""

import json
import math
from pathlib import Path

import pytest
import torch

from llmlib.experiments.training.planted_spikes import BrokenData, byte_text, new_run, plant_burst


class Counted:
    """Batches that say their number."""

    def __init__(self) -> None:
        self.number = 0

    def __next__(self) -> dict[str, torch.Tensor]:
        self.number += 1
        whole = torch.full((3, 7), self.number - 1)
        return {"inputs": whole, "targets": whole + 1}

    def state_dict(self) -> dict[str, int]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.number = state["number"]


def broken(at: int = 5, length: int = 2) -> BrokenData:
    return BrokenData(Counted(), at=at, length=length, vocab_size=11)


def test_some_batches_in_a_row_are_broken_and_the_others_untouched() -> None:
    batches = broken()
    for number in range(9):
        batch = next(batches)
        assert (batch["inputs"] == number).all() == (number not in (5, 6))
        assert (batch["targets"] == number + 1).all() == (number not in (5, 6))


@pytest.mark.parametrize("stopped", [3, 6])
def test_continued_from_json_it_gives_the_same(stopped: int) -> None:
    whole, first, second = broken(), broken(), broken()
    for _ in range(stopped):
        next(whole)
        next(first)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for _ in range(4):
        assert torch.equal(next(whole)["inputs"], next(second)["inputs"])


def test_a_burst_is_one_update_however_the_rate_is_set() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.5)
    plant_burst(optimizer, at=2, factor=100.0)
    moved = []
    for _ in range(5):
        optimizer.param_groups[0]["lr"] = 0.5
        weight.grad = torch.ones(1)
        before = weight.item()
        optimizer.step()
        moved.append(before - weight.item())
    assert moved == [0.5, 0.5, 50.0, 0.5, 0.5]


def test_until_the_fault_a_run_is_its_twin(tmp_path: Path) -> None:
    assert int(byte_text().train.max()) < 128
    runs = [
        new_run(fault, defence, 7, tmp_path / fault / defence, steps=20, at=3)
        for fault, defence in [
            ("clean", "none"),
            ("broken data", "none"),
            ("burst", "none"),
            ("clean", "z-score"),
        ]
    ]
    losses = [[run.train_step()["loss"] for _ in range(6)] for run in runs]
    clean, data, burst, watched = losses
    assert data[:3] == burst[:3] == clean[:3]
    assert data[3] != clean[3]
    assert burst[3] == clean[3] and burst[4] != clean[4], "the update, not the loss before it"
    assert watched == clean, "clipping by z-score lets the first steps by"
    assert all(map(math.isfinite, burst))
