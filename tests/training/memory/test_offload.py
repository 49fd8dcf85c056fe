"""Optimizer state on a disk: the same steps, less memory, and what happens when the disk ends."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.core.hardware.memory import tracked_allocations
from llmlib.training import Trainer, adamw, checkpoints, param_groups, read_metrics
from llmlib.training.checkpointing.files import remove, step_of
from llmlib.training.memory.offload import (
    HostMemory,
    OffloadedOptimizer,
    StateFolder,
    split_groups,
)
from llmlib.training.optimizers.adamw import adamw_from_groups
from llmlib.training.optimizers.base import state_bytes
from llmlib.training.optimizers.lion import Lion
from llmlib.training.optimizers.muon import Muon
from llmlib.training.optimizers.soap import SOAP


def matrices() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(17, 31), nn.Linear(31, 29), nn.Linear(29, 13))


def train(model: nn.Module, optimizer: Any, steps: int = 5) -> list[Tensor]:
    torch.manual_seed(6)
    for _ in range(steps):
        model(torch.randn(11, 17)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach().clone() for p in model.parameters()]


def assert_same(a: list[Tensor], b: list[Tensor]) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def muon(model: nn.Module) -> Muon:
    return Muon([p for p in model.parameters() if p.ndim == 2])


def in_pieces(model: nn.Module) -> torch.optim.Optimizer:
    return adamw_from_groups(split_groups(param_groups(model, 0.1), 400), 1e-2)


OPTIMIZERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "AdamW": (lambda m: adamw(m, 1e-2), lambda m: adamw(m, 1e-2)),
    "AdamW in pieces": (lambda m: adamw(m, 1e-2), in_pieces),
    "Lion": (lambda m: Lion(m.parameters(), 1e-2), lambda m: Lion(m.parameters(), 1e-2)),
    "Muon": (muon, muon),
    # Its bases come column by column, which decides how their products are rounded.
    "SOAP": (
        lambda m: SOAP(m.parameters(), 1e-2, every=2),
        lambda m: SOAP(m.parameters(), 1e-2, every=2),
    ),
}


@pytest.mark.covers("train.offload")
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("where", ["disk", "host"])
def test_steps_are_the_same_to_the_bit(kind, where, tmp_path):
    plainly, elsewhere = OPTIMIZERS[kind]
    plain, offloaded = matrices(), matrices()
    store = StateFolder(tmp_path) if where == "disk" else HostMemory()
    optimizer = OffloadedOptimizer(elsewhere(offloaded), store)
    assert_same(train(offloaded, optimizer), train(plain, plainly(plain)))


@pytest.mark.covers("train.offload")
def test_a_step_holds_the_state_of_one_group(tmp_path):
    """Measured: beside gradients, AdamW's whole state, or that of the largest piece."""
    model, limit = matrices(), 950
    n_numbers = sum(p.numel() for p in model.parameters())

    def held(optimizer: Any) -> int:
        """Step twice on gradients that are there already, and return the peak beside them."""
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        with tracked_allocations() as memory:
            optimizer.step()
            optimizer.step()
        return memory.peak_bytes

    counters = 200  # of the steps, and temporary scalars
    assert 8 * n_numbers <= held(adamw(model, 1e-2)) < 8 * n_numbers + counters
    groups = split_groups(param_groups(model, 0.1), limit)
    largest = max(sum(p.numel() for p in group["params"]) for group in groups)
    store = StateFolder(tmp_path)
    optimizer = OffloadedOptimizer(adamw_from_groups(groups, 1e-2), store)
    assert 8 * largest <= held(optimizer) < 8 * largest + counters < 8 * n_numbers / 2
    on_disk = sum(file.stat().st_size for file in store.path.iterdir())
    assert on_disk == 8 * n_numbers == state_bytes(optimizer.optimizer)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder / "metrics.jsonl")]


@pytest.mark.covers("train.offload")
def test_a_trainer_stops_and_goes_on_with_or_without(
    new_trainer: Callable[..., Trainer], tmp_path: Path
):
    """The checkpoint is the same, so a run may move its state to the disk or back."""
    new_trainer("plain").run()
    expected = losses(tmp_path / "plain")

    def on_disk(model: nn.Module) -> OffloadedOptimizer:
        groups = split_groups(param_groups(model, 0.1), 1000)
        return OffloadedOptimizer(adamw_from_groups(groups, 1e-2), StateFolder(tmp_path))

    def in_memory(model: nn.Module) -> torch.optim.Optimizer:
        return adamw_from_groups(split_groups(param_groups(model, 0.1), 1000), 1e-2)

    for name, then in [("stays", on_disk), ("returns", in_memory)]:
        saved = {"checkpoint_every": 4, "keep": 9}
        new_trainer(name, make_optimizer=on_disk, **saved).run()
        assert losses(tmp_path / name) == expected
        for late in checkpoints(tmp_path / name / "checkpoints"):
            if step_of(late) != 4:
                remove(late)
        new_trainer(name, make_optimizer=then, **saved).run()
        assert losses(tmp_path / name) == expected


def test_a_full_disk_is_named_before_it_can_kill(tmp_path, largest_file):
    model = matrices()
    optimizer = OffloadedOptimizer(adamw(model, 1e-2), StateFolder(tmp_path))
    with largest_file(1000), pytest.raises(OSError, match="bytes of optimizer state do not go"):
        train(model, optimizer)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_a_folder_that_is_none_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="give a folder that exists and is writable"):
        StateFolder(tmp_path / name)


def test_files_that_are_removed_meanwhile_live_on_until_the_end(tmp_path):
    plain, model = matrices(), matrices()
    store = StateFolder(tmp_path)
    optimizer, expected = OffloadedOptimizer(adamw(model, 1e-2), store), adamw(plain, 1e-2)
    train(model, optimizer)
    train(plain, expected)
    shutil.rmtree(store.path)
    assert_same(train(model, optimizer), train(plain, expected))
    fresh = matrices()
    late = OffloadedOptimizer(adamw(fresh, 1e-2), store)  # but new files have no place
    with pytest.raises(OSError, match="continue from the last checkpoint"):
        train(fresh, late)


def test_files_go_with_their_store(tmp_path):
    model = matrices()
    optimizer = OffloadedOptimizer(adamw(model, 1e-2), StateFolder(tmp_path))
    train(model, optimizer)
    assert len(list(tmp_path.iterdir())) == 1
    del optimizer
    assert not list(tmp_path.iterdir())


def test_a_limit_of_nothing_is_refused():
    with pytest.raises(ValueError, match="n_numbers=0"):
        split_groups([], 0)


def test_a_parameter_without_numbers_stays_in_its_group():
    groups = [
        {"params": [torch.ones(0), torch.ones(3)], "lr": 0.1},
        {"params": [torch.ones(0, 5)], "lr": 0.2},
    ]
    found = [([p.numel() for p in g["params"]], g["lr"]) for g in split_groups(groups, 5)]
    assert found == [([0, 3], 0.1), ([0], 0.2)]
