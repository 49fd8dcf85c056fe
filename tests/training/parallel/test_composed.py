"""Data, pipeline and tensor parallelism on eight processes: one process's loss and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.core.processes.launcher import launch
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.composed import ComposedParallel
from llmlib.training.parallel.mesh import Mesh

AXES = {"data": 2, "pipeline": 2, "tensor": 2}
VOCABULARY, WIDTH, LAYERS, LENGTH, ROWS, MICRO = 29, 20, 4, 14, 3, 2
LAYOUTS: list[tuple[Any, int, Any, bool]] = [
    ("1f1b", 1, "copied", True), ("interleaved", 2, "split", False),
]  # fmt: skip


def model(*, tied: bool) -> Transformer:
    torch.manual_seed(1)
    config = ModelConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, n_layers=LAYERS, n_heads=2, d_ff=22,
        max_seq_len=LENGTH, tie_embeddings=tied, qk_norm=not tied, bias=not tied, init_std=0.2,
    )  # fmt: skip
    return Transformer(config).double()


def micro_batches(replica: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(3 + replica)
    tokens = torch.randint(VOCABULARY, (MICRO * ROWS, LENGTH + 1), generator=generator)
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    for row in range(len(targets)):
        targets[row, row + 5 * replica :] = IGNORE  # one replica has more targets than the other
    pieces = zip(inputs.split(ROWS), targets.split(ROWS), strict=True)
    return [{"inputs": i, "targets": t} for i, t in pieces]


def on_the_mesh(rank: int, world_size: int) -> list[dict[str, Any]]:
    mesh = Mesh(AXES)
    comms = mesh.communicators()
    found: list[dict[str, Any]] = []
    for kind, chunks, places, tied in LAYOUTS:
        for comm in comms.values():
            comm.sent.clear()
        layout = ComposedParallel(model(tied=tied), comms, kind, chunks, places)
        place = mesh.place(rank)
        loss = layout.backward(micro_batches(place["data"]))
        sent = {axis: dict(comm.sent) for axis, comm in comms.items()}
        held = {name: p.detach() for name, p in layout.parameters().items()}
        gradients = {name: p.grad for name, p in layout.parameters().items()}
        assert all(gradient is not None for gradient in gradients.values())
        whole = [{n: layout.whole(n, x) for n, x in of.items()} for of in (held, gradients)]  # pyright: ignore[reportArgumentType]
        found.append({
            "loss": loss.item(), "sent": sent, "place": place, "weights": whole[0],
            "gradients": whole[1], "held": sum(p.numel() for p in held.values()),
        })  # fmt: skip
    return found


@pytest.fixture(scope="module")
def runs() -> list[list[dict[str, Any]]]:
    return launch(on_the_mesh, Mesh(AXES).size, timeout_s=240)


def alone(*, tied: bool) -> tuple[float, dict[str, Tensor]]:
    own = model(tied=tied)
    every = [batch for replica in range(AXES["data"]) for batch in micro_batches(replica)]
    loss = next_token_loss(own, {k: torch.cat([b[k] for b in every]) for k in every[0]})
    loss.backward()
    return loss.item(), {n: p.grad for n, p in own.named_parameters() if p.grad is not None}


@pytest.mark.slow
@pytest.mark.covers("train.3d")
@pytest.mark.parametrize("case", range(len(LAYOUTS)))
def test_eight_processes_equal_one(runs: list[list[dict[str, Any]]], case: int) -> None:
    tied = LAYOUTS[case][3]
    loss, gradients = alone(tied=tied)
    weights = model(tied=tied).state_dict()
    seen: set[str] = set()
    for run in (every[case] for every in runs):
        assert run["loss"] == pytest.approx(loss, rel=1e-10)
        for name, gradient in run["gradients"].items():
            torch.testing.assert_close(gradient, gradients[name], rtol=1e-9, atol=1e-10)
            assert torch.equal(run["weights"][name], weights[name])  # of the seed, not the layout
        seen |= run["gradients"].keys()
    assert seen == gradients.keys()


@pytest.mark.slow
@pytest.mark.covers("train.3d")
@pytest.mark.parametrize("case", range(len(LAYOUTS)))
def test_bytes_of_every_axis(runs: list[list[dict[str, Any]]], case: int) -> None:
    """Of each axis over all eight; every length of it is 2, so (P - 1) / P of two is one."""
    _, chunks, places, tied = LAYOUTS[case]
    mine = [every[case] for every in runs]
    stream = ROWS * LENGTH * WIDTH  # a micro-batch's residual stream
    boundaries = AXES["pipeline"] * chunks - 1
    sent = {axis: sum((sum(run["sent"][axis].values()) for run in mine), 0) for axis in AXES}

    # All places of the data axis sum what they hold, the loss and the number of targets.
    assert sent["data"] == 8 * sum(run["held"] + 2 for run in mine)

    # A stage sends its stream on and the gradient back, or its share of the tokens of it; four
    # pipelines run beside each other. Ends of a tied embedding swap the gradients of their words.
    shares = AXES["tensor"] if places == "split" else 1
    numbers = 4 * MICRO * 2 * boundaries * stream // shares + 4 * 2  # and the loss
    if tied:
        numbers += AXES["data"] * 2 * VOCABULARY * WIDTH
    assert sent["pipeline"] == 8 * numbers

    # Four sums a layer of the stream, one of the embeddings, one of the gradient at the logits,
    # and per token two maxima and two sums of the cross-entropy. Split tokens gather in place of
    # copying: the same bytes for those, and two transposes more.
    rows = ROWS * LENGTH
    sums = 4 * LAYERS + 2
    numbers = AXES["data"] * MICRO * 2 * (sums * stream + rows + 2 * rows)
    if places == "copied":
        assert sent["tensor"] == 8 * numbers
    assert {run["held"] for run in mine if run["place"]["pipeline"] == 0} == {
        mine[0]["held"], mine[1]["held"]
    }  # fmt: skip


def test_meshes_that_do_not_fit_are_refused() -> None:
    two = object.__new__(Communicator)  # without the processes
    two.rank, two.size = 0, 2
    with pytest.raises(ValueError, match="give the mesh data, pipeline and tensor"):
        ComposedParallel(model(tied=True), {"data": two, "tensor": two})
    comms = dict.fromkeys(AXES, two)
    with pytest.raises(ValueError, match="take '1f1b'"):
        ComposedParallel(model(tied=True), comms, "zero_bubble")
    uneven = ComposedParallel(model(tied=False), comms, places="split")
    batch = {"inputs": torch.zeros(1, 7, dtype=torch.long)}
    with pytest.raises(ValueError, match="7 tokens are not 2 equal shares"):
        uneven.backward([batch])
