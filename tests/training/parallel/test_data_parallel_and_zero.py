"""Data parallelism and ZeRO on real processes: one process's numbers, the formulas' bytes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.core.processes.launcher import launch
from llmlib.training import next_token_loss
from llmlib.training.optimizers.adamw import adamw, adamw_from_groups
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.data_parallel import DataParallel, broadcast_parameters
from llmlib.training.parallel.ring import (
    all_to_all,
    ring_all_gather,
    ring_all_reduce,
    ring_reduce_scatter,
)
from llmlib.training.parallel.zero import ZeRO

CONFIG = ModelConfig(
    vocab_size=29, d_model=22, n_layers=2, n_heads=11, n_kv_heads=11, head_dim=2, d_ff=13,
    max_seq_len=7, tie_embeddings=True,
)  # fmt: skip
LR = 1e-2
BUCKETS = (11, 20_000, 10**9)


def model(dtype: torch.dtype, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    return Transformer(CONFIG).to(dtype)


def micro_batches(rank: int, world_size: int, n: int = 2) -> list[Batch]:
    """Rows of one process: every process has another number of targets, one micro-batch few."""
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(29, (n * world_size * 3, 8), generator=generator)
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    for row in range(len(targets)):
        targets[row, : row % 7] = IGNORE
    mine = slice(rank * n * 3, (rank + 1) * n * 3)
    return [
        {"inputs": i, "targets": t}
        for i, t in zip(inputs[mine].split(3), targets[mine].split(3), strict=True)
    ]


def vector(parameters: Any) -> Tensor:
    return nn.utils.parameters_to_vector(list(parameters)).detach().clone()


def alone(world_size: int, dtype: torch.dtype, steps: int = 3) -> dict[str, Any]:
    """Return the losses, first gradient and last weights of one process that has all rows."""
    own = model(dtype)
    optimizer = adamw(own, LR, fused=False)
    rows = [b for rank in range(world_size) for b in micro_batches(rank, world_size)]
    batch = {name: torch.cat([one[name] for one in rows]) for name in rows[0]}
    losses, gradient = [], None
    for _ in range(steps):
        optimizer.zero_grad()
        loss = next_token_loss(own, batch)
        loss.backward()
        losses.append(loss.item())
        if gradient is None:
            gradient = vector(p.grad for p in own.parameters())
        optimizer.step()
    return {"losses": losses, "gradient": gradient, "weights": vector(own.parameters())}


def rings(rank: int, world_size: int) -> dict[str, Any]:
    """Run each collective once on integers that say where they came from."""
    length, found = 7, {}
    start = 100.0 * rank + torch.arange(length, dtype=torch.float64)
    for name, run in (("reduce", ring_all_reduce), ("scatter", ring_reduce_scatter)):
        comm, flat = Communicator(), start.clone()
        out = run(comm, flat)
        found[name] = flat if out is None else out.clone()
        found[f"{name} bytes"] = comm.sent_bytes
    comm, flat = Communicator(), torch.zeros(length)
    flat.tensor_split(world_size)[rank].fill_(rank + 1)
    ring_all_gather(comm, flat)
    found["gather"] = flat
    comm = Communicator()
    parts = [torch.full((rank + r, 2), 10.0 * rank + r) for r in range(world_size)]
    shapes = [torch.Size((r + rank, 2)) for r in range(world_size)]
    found["all to all"] = all_to_all(comm, parts, shapes)
    return found


def rows(rank: int, world_size: int, n: int) -> list[Batch]:
    """Return a process's rows as one micro-batch or as two."""
    both = micro_batches(rank, world_size)
    return both if n == 2 else [{key: torch.cat([b[key] for b in both]) for key in both[0]}]


def data_parallel(
    rank: int, world_size: int, dtype: torch.dtype, bucket: int, n: int
) -> dict[str, Any]:
    own = model(dtype, seed=rank)  # unequal on purpose
    comm = Communicator()
    broadcast_parameters(own, comm)
    comm.sent.clear()
    # The fused kernel rounds the last numbers of a vector otherwise than those before them.
    parallel = DataParallel(own, comm, bucket_bytes=bucket)
    optimizer = adamw(own, LR, fused=False)
    losses, gradient, sent = [], None, 0
    for step in range(3):
        loss = parallel.backward(next_token_loss, rows(rank, world_size, n))
        losses.append(loss.item())
        if step == 0:
            gradient, sent = vector(p.grad for p in own.parameters()), comm.sent_bytes
        optimizer.step()
    buckets = len(parallel.buckets)
    parallel.close()
    return {
        "losses": losses, "gradient": gradient, "weights": vector(own.parameters()),
        "sent": sent, "buckets": buckets,
    }  # fmt: skip


def zero(rank: int, world_size: int, dtype: torch.dtype, stage: Any, n: int) -> dict[str, Any]:
    own, comm = model(dtype), Communicator()
    sharded = ZeRO(
        own, comm, lambda groups: adamw_from_groups(groups, LR, fused=False), stage=stage
    )
    losses, sent = [], 0
    for step in range(3):
        loss = sharded.backward(next_token_loss, rows(rank, world_size, n))
        losses.append(loss.item())
        sharded.step()
        if step == 0:
            sent = comm.sent_bytes
    held = sharded.held_bytes()
    sharded.gather_all()
    return {"losses": losses, "weights": vector(own.parameters()), "sent": sent, "held": held}


def both(rank: int, world_size: int) -> dict[Any, Any]:
    """Everything in one set of processes: starting them is what costs."""
    found: dict[Any, Any] = {"rings": rings(rank, world_size)}
    for bucket in BUCKETS:
        found["ddp", bucket] = data_parallel(rank, world_size, torch.float64, bucket, 2)
    for n in (1, 2):
        found["ddp", n] = data_parallel(rank, world_size, torch.float32, 20_000, n)
        for dtype in (torch.float64, torch.float32):
            for stage in (1, 2, 3):
                found["zero", dtype, stage, n] = zero(rank, world_size, dtype, stage, n)
    return found


@pytest.fixture(scope="module", params=[2, 3])
def runs(request: pytest.FixtureRequest) -> list[dict[Any, Any]]:
    return launch(both, request.param, timeout_s=240)


def test_rings_do_what_they_are_called(runs: list[dict[Any, Any]]) -> None:
    size = len(runs)
    whole = 50.0 * size * (size - 1) + size * torch.arange(7, dtype=torch.float64)
    owners = torch.arange(7).tensor_split(size)
    for rank, run in enumerate(one["rings"] for one in runs):
        assert torch.equal(run["reduce"], whole)
        assert torch.equal(run["scatter"], whole[owners[rank]])
        expected = [float(r + 1) for r in range(size) for _ in owners[r]]
        assert run["gather"].tolist() == expected
        for source, came in enumerate(run["all to all"]):
            assert came.shape == (source + rank, 2) and (came == 10.0 * source + rank).all()
    for name, times in (("reduce", 2), ("scatter", 1)):
        sent = sum(one["rings"][f"{name} bytes"] for one in runs)
        assert sent == times * (size - 1) * 7 * 8


@pytest.mark.covers("train.data-parallel")
@pytest.mark.parametrize("bucket", BUCKETS)
def test_data_parallelism_equals_one_process(runs: list[dict[Any, Any]], bucket: int) -> None:
    size, expected = len(runs), alone(len(runs), torch.float64)
    for run in (one["ddp", bucket] for one in runs):
        for name in ("losses", "gradient", "weights"):
            torch.testing.assert_close(
                torch.as_tensor(run[name]), torch.as_tensor(expected[name]), rtol=1e-10, atol=1e-12
            )
    assert torch.equal(*(one["ddp", bucket]["weights"] for one in runs[:2]))
    # The gradient once round the ring and back, the loss and the number of targets beside it.
    parameters = sum(p.numel() for p in model(torch.float64).parameters())
    sent = sum(one["ddp", bucket]["sent"] for one in runs)
    assert sent == 2 * (size - 1) * 8 * (parameters + 2)
    buckets = runs[0]["ddp", bucket]["buckets"]
    assert (buckets == 1) == (bucket == 10**9) and (buckets > 5) == (bucket == 11)


@pytest.mark.covers("train.zero")
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_equals_data_parallelism(runs: list[dict[Any, Any]], stage: int, n: int) -> None:
    size, expected = len(runs), alone(len(runs), torch.float64)
    parameters = sum(p.numel() for p in model(torch.float64).parameters())
    for run in runs:
        exact = run["zero", torch.float64, stage, n]
        for name in ("losses", "weights"):
            torch.testing.assert_close(
                torch.as_tensor(exact[name]),
                torch.as_tensor(expected[name]),
                rtol=1e-10,
                atol=1e-12,
            )
        plain, sharded = run["ddp", n]["weights"], run["zero", torch.float32, stage, n]["weights"]
        if size == 2 and (stage == 1 or n == 1):
            assert torch.equal(sharded, plain)
        # Three numbers, or the sums of two micro-batches, have several sums.
        assert (sharded - plain).norm() < 1e-6 * plain.norm()
        # What is held, but for the zeros that fill up the parts: one unit has at most P - 1.
        held, few = exact["held"], 8 * 3 * 2 * (size - 1)
        whole, part = 8 * parameters, 8 * parameters / size
        assert abs(held["parameters"] - (part if stage == 3 else whole)) <= few
        assert abs(held["gradients"] - (whole if stage == 1 else part)) <= few
        assert abs(held["optimizer"] - 2 * part) <= 2 * few
    sent = sum(run["zero", torch.float64, stage, n]["sent"] for run in runs)
    reduced = n if stage > 1 else 1
    gathered = 2 * n if stage == 3 else 1
    ideal = (size - 1) * 8 * parameters * (reduced + gathered)
    assert ideal <= sent <= ideal + (size - 1) * 8 * (4 + (reduced + gathered) * 6 * (size - 1))
