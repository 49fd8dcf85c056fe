"""Context and expert parallelism and DiLoCo on real processes, at odd lengths, tokens dropped."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.core.processes.launcher import launch
from llmlib.training import next_token_loss
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.context_parallel import ContextParallel, zigzag_shards
from llmlib.training.parallel.expert_parallel import ExpertParallel
from llmlib.training.parallel.local_sgd import DiLoCo

BASE = ModelConfig(
    vocab_size=29, d_model=20, n_layers=2, n_heads=12, n_kv_heads=6, head_dim=2, d_ff=13,
    max_seq_len=17, init_std=0.3,
)  # fmt: skip
LENGTHS = (17, 11, 6)
EXPERTS = {
    "all kept": BASE.replace(n_experts=6, experts_per_token=2, balance="none"),
    "some dropped": BASE.replace(
        n_experts=6, experts_per_token=1, expert_capacity=0.7, balance="none", n_shared_experts=1
    ),
}


def model(config: ModelConfig) -> Transformer:
    torch.manual_seed(1)
    return Transformer(config).double()


def rows(length: int, n: int = 3, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(29, (n, length + 1), generator=generator)
    targets = tokens[:, 1:].clone()
    targets[0, : length // 2] = IGNORE
    return {"inputs": tokens[:, :-1], "targets": targets}


def gradients(module: nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in module.named_parameters()}


def by_context(way: Any, length: int) -> dict[str, Any]:
    own, comm = model(BASE), Communicator()
    loss = ContextParallel(own, comm, way).backward(rows(length))
    return {"loss": loss.item(), "gradients": gradients(own), "sent": dict(comm.sent)}


def by_experts(rank: int, kind: str) -> dict[str, Any]:
    own, comm = model(EXPERTS[kind]), Communicator()
    parallel = ExpertParallel(own, comm)
    loss = parallel.backward(next_token_loss, [rows(5 + rank, seed=rank), rows(4, seed=9 + rank)])
    return {"loss": loss.item(), "gradients": gradients(own), "sent": dict(comm.sent)}


def by_laps(rank: int, steps: int, outer: Any) -> Tensor:
    own, comm = model(BASE), Communicator()
    local = DiLoCo(own, comm, outer)
    inner = torch.optim.SGD(own.parameters(), lr=0.1)
    for lap in range(2):
        for step in range(steps):
            inner.zero_grad()
            next_token_loss(own, rows(7, seed=100 * lap + 10 * step + rank)).backward()
            inner.step()
        local.meet()
    return nn.utils.parameters_to_vector(own.parameters()).detach()


def plain_step(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


def every(rank: int, world_size: int) -> dict[Any, Any]:
    found: dict[Any, Any] = {
        (way, length): by_context(way, length) for way in ("ring", "ulysses") for length in LENGTHS
    }
    found |= {kind: by_experts(rank, kind) for kind in EXPERTS}
    found["one step"] = by_laps(rank, 1, plain_step)
    found["three steps"] = by_laps(rank, 3, plain_step)
    found["nesterov"] = by_laps(rank, 3, None)
    return found


@pytest.fixture(scope="module")
def runs() -> list[dict[Any, Any]]:
    return launch(every, 3, timeout_s=240)


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.covers("train.sequence-parallel")
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("way", ["ring", "ulysses"])
def test_tokens_on_several_processes_equal_one(
    runs: list[dict[Any, Any]], way: str, length: int
) -> None:
    alone, size = model(BASE), len(runs)
    loss = next_token_loss(alone, rows(length))
    loss.backward()
    for run in (one[way, length] for one in runs):
        assert run["loss"] == pytest.approx(loss.item(), rel=1e-10)
        same(run["gradients"], gradients(alone))
    sent = [run[way, length]["sent"] for run in runs]
    if way == "ring":
        # Keys and values go round P - 1 times in both passes, their gradients P times.
        one = 2 * 3 * 6 * length * 2 * 8  # both, rows, key heads, tokens, head width, bytes
        total = sum(each["keys and values"] for each in sent)
        assert total == BASE.n_layers * one * (2 * (size - 1) + size)
    else:
        one = 3 * length * 2 * 8 * (12 + 6 + 6 + 12)  # queries, keys, values, and the result
        total = sum(each["all-to-all"] for each in sent)
        # Shares of unequal numbers of tokens: what stays at home is not quite 1 / P of all.
        assert total == pytest.approx(2 * BASE.n_layers * one * (size - 1) / size, rel=1e-12)


@pytest.mark.covers("train.expert-parallel")
@pytest.mark.parametrize("kind", EXPERTS)
def test_experts_on_several_processes_equal_one(runs: list[dict[Any, Any]], kind: str) -> None:
    alone, size = model(EXPERTS[kind]), len(runs)
    groups = [rows(5 + rank, seed=rank) for rank in range(size)]
    groups += [rows(4, seed=9 + rank) for rank in range(size)]
    counts = [int((group["targets"] != IGNORE).sum()) for group in groups]
    loss = 0.0
    for group, count in zip(groups, counts, strict=True):  # each with its own room, as GShard's
        mine = next_token_loss(alone, group) * (count / sum(counts))
        mine.backward()
        loss += mine.item()
    for rank, run in enumerate(one[kind] for one in runs):
        assert run["loss"] == pytest.approx(loss, rel=1e-10)
        for name, gradient in gradients(alone).items():
            assert gradient is not None
            is_expert = ".up.weight" in name or ".out.weight" in name
            if is_expert and "feedforward" in name and "shared" not in name:
                gradient = gradient.chunk(size)[rank]
            same(run["gradients"][name], gradient)


@pytest.mark.covers("train.local-sgd")
def test_one_step_and_a_plain_outer_step_is_descent_on_the_mean_gradient(
    runs: list[dict[Any, Any]],
) -> None:
    alone = model(BASE)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.1)
    for lap in range(2):
        optimizer.zero_grad()
        for rank in range(len(runs)):
            (next_token_loss(alone, rows(7, seed=100 * lap + rank)) / len(runs)).backward()
        optimizer.step()
    expected = nn.utils.parameters_to_vector(alone.parameters()).detach()
    for run in runs:
        torch.testing.assert_close(run["one step"], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.covers("train.local-sgd")
def test_the_outer_step_goes_where_the_workers_went(runs: list[dict[Any, Any]]) -> None:
    start = nn.utils.parameters_to_vector(model(BASE).parameters()).detach()
    went = runs[0]["three steps"] - start
    for run in runs:
        assert torch.equal(run["nesterov"], runs[0]["nesterov"])
        # 0.7 (1 + 0.9) in the first lap, momentum besides in the second: along, not against.
        assert torch.cosine_similarity(run["nesterov"] - start, went, dim=0) > 0.9


def test_a_zigzag_shares_the_causal_scores_out() -> None:
    for length, size in ((64, 4), (17, 3), (101, 7)):
        shards = zigzag_shards(length, size)
        assert sorted(torch.cat(shards).tolist()) == list(range(length))
        scores = [int((shard + 1).sum()) for shard in shards]
        straight = [int((s + 1).sum()) for s in torch.arange(length).tensor_split(size)]
        assert max(scores) - min(scores) <= 1.5 * length
        assert max(straight) - min(straight) > 2 * (max(scores) - min(scores))
    with pytest.raises(ValueError, match="fewer than the 2 x 3 pieces"):
        zigzag_shards(5, 3)
