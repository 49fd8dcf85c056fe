"""Pipelines on real processes, in every order: one process's loss and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.core.processes.launcher import launch
from llmlib.training import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.pipelines.stages import PipelineParallel

BASE = ModelConfig(
    vocab_size=29, d_model=22, n_layers=12, n_heads=11, head_dim=2, d_ff=13, max_seq_len=7
)
ORDERS: list[tuple[Any, int, int]] = [
    ("gpipe", 1, 5), ("1f1b", 1, 7), ("interleaved", 1, 6), ("interleaved", 2, 6),
    ("zero_bubble", 1, 5),
]  # fmt: skip
TIED = {"tied": True, "untied": False}


def model(kind: str) -> Transformer:
    torch.manual_seed(1)
    tied = BASE.replace(tie_embeddings=TIED[kind], bias=not TIED[kind], init_std=0.2)
    return Transformer(tied).double()


def micro_batches(n: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(29, (2 * n, 8), generator=generator)
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    for row in range(len(targets)):
        targets[row, row % 7 :] = IGNORE  # rows without any target too
    pieces = zip(inputs.split(2), targets.split(2), strict=True)
    return [{"inputs": i, "targets": t} for i, t in pieces]


def every(rank: int, world_size: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for kind in TIED:
        for order, chunks, n in ORDERS:
            comm = Communicator()
            pipeline = PipelineParallel(model(kind), comm, order, chunks)
            loss = pipeline.backward(micro_batches(n))
            gradients = {name: p.grad for name, p in pipeline.parameters().items()}
            found[kind, order, chunks] = (loss.item(), gradients, dict(comm.sent))
    return found


@pytest.fixture(scope="module")
def runs() -> list[dict[Any, Any]]:
    return launch(every, 3, timeout_s=240)


def alone(kind: str, n: int) -> tuple[float, dict[str, Tensor]]:
    own = model(kind)
    every = micro_batches(n)
    whole = {name: torch.cat([b[name] for b in every]) for name in ("inputs", "targets")}
    loss = next_token_loss(own, whole)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in own.named_parameters() if p.grad is not None}


@pytest.mark.covers("train.pipeline-parallel")
@pytest.mark.parametrize("kind", TIED)
@pytest.mark.parametrize(("order", "chunks", "n"), ORDERS)
def test_every_order_equals_one_process(
    runs: list[dict[Any, Any]], order: str, chunks: int, n: int, kind: str
) -> None:
    size = len(runs)
    loss, gradients = alone(kind, n)
    seen: set[str] = set()
    for run in runs:
        own_loss, own, sent = run[kind, order, chunks]
        assert own_loss == pytest.approx(loss, rel=1e-10)
        for name, gradient in own.items():
            torch.testing.assert_close(gradient, gradients[name], rtol=1e-9, atol=1e-13)
        seen |= own.keys()
    assert seen == gradients.keys()
    # Each place but the last sends a micro-batch's residual stream on, and all but the first back.
    each = n * 2 * 7 * 22 * 8 * (chunks * size - 1)
    for name in ("activations", "gradients"):
        assert sum(run[kind, order, chunks][2].get(name, 0) for run in runs) == each


def test_layers_that_are_no_equal_runs_are_refused() -> None:
    five = object.__new__(Communicator)  # without the processes
    five.rank, five.size = 0, 5
    with pytest.raises(ValueError, match="12 layers are not 5 runs"):
        PipelineParallel(model("tied"), five)
