"""A gradient in parts is clipped as a whole; workers of one process meet as processes do."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import Batch
from llmlib.core.processes.launcher import launch
from llmlib.experiments.training.local_steps import Outer, train_workers
from llmlib.training import next_token_loss
from llmlib.training.optimizers.adamw import adamw_from_groups
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.local_sgd import DiLoCo
from llmlib.training.parallel.zero import ZeRO
from llmlib.training.stability.clipping import NormClipping

CONFIG = ModelConfig(
    vocab_size=29, d_model=22, n_layers=2, n_heads=11, n_kv_heads=11, head_dim=2, d_ff=13,
    max_seq_len=7, tie_embeddings=True,
)  # fmt: skip
LIMITS = (0.05, 10.0)
LAPS, STEPS = 3, 7


def model() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG).double()


def rows(rank: int, step: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(10 * step + rank)
    tokens = torch.randint(29, (3, 8), generator=generator)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}


def vector(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def clipped(rank: int, stage: Any, limit: float) -> dict[str, Any]:
    own, comm = model(), Communicator()
    sharded = ZeRO(
        own, comm, lambda groups: adamw_from_groups(groups, 1e-2, fused=False), stage=stage
    )
    norms, parts = list[float](), list[Tensor | None]()
    for step in range(2):
        sharded.backward(next_token_loss, [rows(rank, step)])
        norms.append(sharded.clip(limit))
        parts = [unit.shard.grad for unit in sharded.all_units]
        sharded.step()
    sharded.gather_all()
    own_norm = torch.stack([part.norm() for part in parts if part is not None]).norm()
    return {"norms": norms, "weights": vector(own), "own": own_norm.item()}


def sgd(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.5)


def laps(rank: int) -> dict[str, Any]:
    own, comm = model(), Communicator()
    local, inner = DiLoCo(own, comm), sgd(list(own.parameters()))
    for step in range(STEPS):
        inner.zero_grad()
        next_token_loss(own, rows(rank, step)).backward()
        inner.step()
        if (step + 1) % LAPS == 0:
            local.meet()
    return {"weights": vector(own), "sent": comm.sent_bytes}


def every(rank: int, world_size: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {
        (stage, limit): clipped(rank, stage, limit) for stage in (1, 2, 3) for limit in LIMITS
    }
    return found | {"laps": laps(rank)}


@pytest.fixture(scope="module")
def runs() -> list[dict[Any, Any]]:
    return launch(every, 2, timeout_s=240)


@pytest.mark.covers("train.zero")
@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_parts_are_clipped_by_the_norm_of_all(
    runs: list[dict[Any, Any]], stage: int, limit: float
) -> None:
    alone, norms = model(), []
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in alone.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in alone.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=1e-2, betas=(0.9, 0.95),
    )  # fmt: skip
    for step in range(2):
        optimizer.zero_grad()
        both = [rows(rank, step) for rank in range(2)]
        next_token_loss(
            alone, {name: torch.cat([one[name] for one in both]) for name in both[0]}
        ).backward()
        norms.append(NormClipping(limit)(alone.parameters()).item())
        optimizer.step()
    assert (norms[0] > limit) == (limit < 1)
    for run in (one[stage, limit] for one in runs):
        assert run["norms"] == pytest.approx(norms, rel=1e-10)
        # torch divides by the norm plus 1e-6, and Adam by the gradient's size.
        torch.testing.assert_close(run["weights"], vector(alone), rtol=1e-6, atol=1e-8)
    if limit < 1:
        own = [one[stage, limit]["own"] for one in runs]
        assert sum(norm**2 for norm in own) == pytest.approx(limit**2, rel=1e-9)


@pytest.mark.covers("train.local-sgd")
def test_workers_of_one_process_meet_as_processes_do(runs: list[dict[Any, Any]]) -> None:
    models = [model(), model()]
    train_workers(
        models, rows, next_token_loss, sgd, steps=STEPS, laps=LAPS,
        outer=Outer(models, lr=0.7, momentum=0.9),
    )  # fmt: skip
    assert not torch.equal(vector(models[0]), vector(models[1]))  # a step after the last meeting
    for run, worker in zip(runs, models, strict=True):
        torch.testing.assert_close(run["laps"]["weights"], vector(worker), rtol=1e-10, atol=1e-13)


@pytest.mark.covers("train.local-sgd")
def test_a_meeting_sends_what_one_summed_gradient_does(runs: list[dict[Any, Any]]) -> None:
    size = sum(p.nbytes for p in model().parameters())
    meetings = STEPS // LAPS
    assert sum(run["laps"]["sent"] for run in runs) == meetings * 2 * (len(runs) - 1) * size
