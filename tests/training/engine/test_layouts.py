"""One run passed from layout to layout by its checkpoints: 2, 3, 1, 2 and 4 processes.

The four processes, which take seconds to start, also show that torch's pipeline equals one process.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from training.program import build

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.core.processes.launcher import launch
from llmlib.training import (
    Trainer,
    checkpoints,
    latest,
    load_model,
    next_token_loss,
    read_metrics,
)
from llmlib.training.checkpointing import background
from llmlib.training.checkpointing.named_state import model_tensors, optimizer_tensors
from llmlib.training.distributed import own_part
from llmlib.training.engine.pipelined import Pipelined

MODEL = {
    "dropout": 0.0, "n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "d_ff": 14, "qk_norm": True,
    "bias": True, "qkv_bias": True,
}  # fmt: skip
COMMON: dict[str, Any] = {"model": MODEL, "accumulate": 2, "checkpoints": "sharded"}
TENSOR = {"parallel": "tensor", "tensor_size": 2}
# processes, settings, the step after which the run is stopped
LEGS: list[tuple[int, dict[str, Any], int]] = [
    (2, {"parallel": "fsdp"}, 3),
    (3, {"parallel": "fsdp"}, 5),
    (1, {}, 7),
    (2, TENSOR, 9),
    (4, TENSOR, 11),
]
Build = Callable[..., Trainer]


def held(trainer: Trainer) -> dict[str, Tensor]:
    states = optimizer_tensors(trainer.model, trainer.optimizer)
    named = model_tensors(trainer.model) | {f"state of {name}": t for name, t in states.items()}
    return {name: tensor.clone() for name, tensor in named.items()}


def leg(folder: Path, settings: dict[str, Any], until: int) -> dict[str, Any]:
    """Go on to a step; say what was loaded and what was held at the end."""
    trainer = build(folder / "run", **COMMON, **settings)
    take_step, begun = trainer.train_step, dict[str, Tensor]()

    def step() -> dict[str, Any]:
        if not begun:
            begun.update(held(trainer))
        trainer.stop.made = trainer.step + 1 == until
        return take_step()

    trainer.train_step = step
    trainer.run()
    own = sum(own_part(p).numel() for p in trainer.model.parameters())
    return {"begun": begun, "ended": held(trainer), "own": own}


def deep(tied: bool) -> Transformer:
    torch.manual_seed(7)
    config = ModelConfig(
        vocab_size=29, d_model=10, n_layers=4, n_heads=1, max_seq_len=13, tie_embeddings=tied
    )
    return Transformer(config).double()


def rows() -> Batch:
    """Six rows, one a micro-batch, with unequal numbers of targets in them."""
    tokens = torch.randint(29, (6, 14), generator=torch.Generator().manual_seed(5))
    targets = tokens[:, 1:].clone()
    targets[0, 3:] = targets[4] = IGNORE
    return {"inputs": tokens[:, :-1], "targets": targets}


def pipelines() -> dict[Any, tuple[float, dict[str, Tensor]]]:
    found: dict[Any, tuple[float, dict[str, Tensor]]] = {}
    for tied in (True, False):
        for schedule in ("gpipe", "1f1b"):
            model = deep(tied)
            loss = Pipelined(model, 6, schedule).backward(rows())
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            found[tied, schedule] = loss.item(), gradients
    return found


def all_legs(rank: int, world_size: int, folder: Path) -> tuple[list[Any], dict[Any, Any]]:
    pipelined = pipelines()
    dist.destroy_process_group()  # each leg has a group of its own size
    found = list[Any]()
    for number, (n, settings, until) in enumerate(LEGS):
        if rank < n:
            if n > 1:
                store = f"file://{folder}/store_{number}"
                dist.init_process_group("gloo", init_method=store, rank=rank, world_size=n)
            found.append(leg(folder, settings, until))
            if n > 1:
                dist.destroy_process_group()
        else:
            found.append(None)
        (folder / f"leg_{number}_{rank}").touch()
        while len(list(folder.glob(f"leg_{number}_*"))) < world_size:
            time.sleep(0.02)
    return found, pipelined


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("legs")
    return folder, launch(all_legs, 4, folder, timeout_s=560)


@pytest.fixture(scope="module")
def passed_on(launched: tuple[Path, list[Any]]) -> tuple[Path, list[list[Any]]]:
    return launched[0], [legs for legs, _ in launched[1]]


@pytest.mark.slow
@pytest.mark.covers("train.engine", "train.reshard")
def test_each_layout_begins_with_the_bits_that_another_wrote(
    passed_on: tuple[Path, list[list[Any]]],
) -> None:
    first = passed_on[1][0]
    for before, after in zip(first, first[1:], strict=False):
        assert before["ended"].keys() == after["begun"].keys()
        for name, tensor in before["ended"].items():
            assert torch.equal(after["begun"][name], tensor), name
    states = [name for name in first[0]["ended"] if name.startswith("state of ")]
    assert {name.rpartition(".")[2] for name in states} == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.slow
@pytest.mark.covers("train.engine", "train.reshard")
def test_the_run_equals_one_process_without_a_stop(
    passed_on: tuple[Path, list[list[Any]]], new_trainer: Build
) -> None:
    folder, ranks = passed_on
    alone = new_trainer("alone", **COMMON)
    alone.run()
    runs = [read_metrics(f / "metrics.jsonl") for f in (folder / "run", alone.folder)]
    assert [line["step"] for line in runs[0]] == list(range(1, 12))
    losses, expected = ([line["loss"] for line in run] for run in runs)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=0)
    norms, expected = ([line["grad_norm"] for line in run] for run in runs)
    torch.testing.assert_close(norms, expected, atol=1e-5, rtol=1e-4)
    assert [line["tokens"] for line in runs[0]] == [line["tokens"] for line in runs[1]]
    torch.testing.assert_close(ranks[0][-1]["ended"], held(alone), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.covers("train.engine")
def test_products_are_shared_and_the_rest_is_whole(
    passed_on: tuple[Path, list[list[Any]]],
) -> None:
    ranks = passed_on[1]
    whole = {name: t.numel() for name, t in ranks[0][2]["ended"].items() if "state of" not in name}
    shared = sum(
        number
        for name, number in whole.items()
        if any(part in name for part in ("qkv", "up.", "out.weight"))
    )
    rest = sum(whole.values()) - shared
    for rank in (0, 1):
        assert ranks[rank][3]["own"] == shared / 2 + rest
    assert sum(rank[4]["own"] for rank in ranks) == shared + 2 * rest
    assert sum(rank[0]["own"] for rank in ranks[:2]) == shared + rest


@pytest.mark.slow
@pytest.mark.covers("train.reshard")
def test_a_model_alone_is_read_from_pieces(passed_on: tuple[Path, list[list[Any]]]) -> None:
    folder, ranks = passed_on
    path = latest(folder / "run/checkpoints")
    assert path is not None and path.name == "step_00000011"
    fresh = build(folder / "fresh", **COMMON).model
    load_model(path, fresh)
    assert all(torch.equal(t, ranks[0][-1]["ended"][n]) for n, t in model_tensors(fresh).items())
    fresh = build(folder / "fresh", **COMMON | {"model": {**MODEL, "d_ff": 16}}).model
    with pytest.raises(ValueError, match="feedforward"):
        load_model(path, fresh)


@pytest.mark.slow
@pytest.mark.covers("train.engine")
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
@pytest.mark.parametrize("tied", [True, False])
def test_torchs_pipeline_equals_one_process(
    launched: tuple[Path, list[Any]], tied: bool, schedule: str
) -> None:
    alone = deep(tied)
    loss = next_token_loss(alone, rows())
    loss.backward()
    expected = {name: p.grad for name, p in alone.named_parameters()}
    seen = set[str]()
    for rank, (_, pipelined) in enumerate(launched[1]):
        value, gradients = pipelined[tied, schedule]
        assert value == pytest.approx(loss.item(), rel=1e-9)
        for name, gradient in gradients.items():
            whole = name.replace("blocks.0.", f"blocks.{rank}.")  # one layer each
            seen.add(whole)
            torch.testing.assert_close(gradient, expected[whole], rtol=1e-9, atol=1e-12)
    assert seen == expected.keys()


@pytest.mark.covers("train.reshard")
def test_what_was_not_finished_is_never_chosen(
    new_trainer: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pieces of step 8 are written, but the process dies before the folder has its name."""

    class PowerCut(BaseException):
        pass

    finish = background.finish

    def cut(partial: Path, *rest: Any) -> None:
        if "00000008" in partial.name:
            raise PowerCut
        finish(partial, *rest)

    trainer = new_trainer(**COMMON, checkpoint_every=4)
    monkeypatch.setattr(background, "finish", cut)
    with pytest.raises(PowerCut):
        trainer.run()
    folder = trainer.folder / "checkpoints"
    assert (folder / ".step_00000008.partial/.metadata").exists()
    assert [path.name for path in checkpoints(folder)] == ["step_00000004"]
    monkeypatch.undo()
    again = new_trainer(**COMMON, checkpoint_every=4)
    again.run()
    straight = new_trainer("straight", **COMMON, checkpoint_every=4)
    straight.run()
    ours, theirs = held(again), held(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not list(folder.glob(".step_*"))


def test_a_disk_that_takes_no_more_is_named(
    new_trainer: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("No space left on device")

    trainer = new_trainer(**COMMON)
    monkeypatch.setattr(background, "write_pieces", refuse)
    with pytest.raises(OSError, match=r"step_00000011 could not be written .*No space left"):
        trainer.run()
    assert not checkpoints(trainer.folder / "checkpoints")
