"""Experts: equal to a loop over tokens, drops as defined, fair loads."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.experts.grouped_linear import grouped_linear
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts, group_by_expert
from llmlib.architecture.experts.routing import (
    choice_shares,
    expert_capacity,
    gshard_balance_loss,
    route,
    router_z_loss,
    switch_balance_loss,
    within_capacity,
)
from llmlib.architecture.feedforward import activate

BASE = ModelConfig(
    vocab_size=31, d_model=22, n_layers=2, n_heads=1, d_ff=13, max_seq_len=41, n_experts=5
)
CONFIGS = [
    BASE,
    BASE.replace(experts_per_token=1),
    BASE.replace(experts_per_token=3, normalize_gates=False, activation="gelu"),
    BASE.replace(n_shared_experts=2, activation="geglu"),
    BASE.replace(experts_per_token=5, n_shared_experts=1, activation="relu_squared", bias=True),
]
each_config = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: f"{c.experts_per_token}-{c.activation}-{c.n_shared_experts}"
)


def make(config: ModelConfig) -> MixtureOfExperts:
    layer = MixtureOfExperts(config)
    with torch.no_grad():  # large enough for a mistake to show
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter) / math.sqrt(parameter.shape[-1]))
    return layer


def dense_loop(layer: MixtureOfExperts, x: Tensor, capacity: float = math.inf) -> Tensor:
    """The definition: token by token, choice by choice, an expert as long as it has room."""
    config, room = layer.config, [capacity] * layer.config.n_experts
    up = layer.up.weight.chunk(config.n_experts)
    out = layer.out.weight.chunk(config.n_experts)
    rows = [[torch.zeros(config.d_model)] * x.shape[1] for _ in range(x.shape[0])]
    for t in range(x.shape[1]):
        for b in range(x.shape[0]):
            token = x[b, t]
            scores = (layer.router.weight @ token).softmax(0)
            chosen = scores.sort(descending=True).indices[: config.experts_per_token].tolist()
            total = sum(scores[i] for i in chosen)
            is_normalized = config.normalize_gates and len(chosen) > 1
            for i in chosen:
                if room[i] <= 0:
                    continue
                room[i] -= 1
                gate = scores[i] / total if is_normalized else scores[i]
                rows[b][t] = rows[b][t] + gate * (
                    out[i] @ activate(up[i] @ token, config.activation)
                )
            if layer.shared is not None:
                hidden = activate(layer.shared.up.weight @ token, config.activation)
                rows[b][t] = rows[b][t] + layer.shared.out.weight @ hidden
    return torch.stack([torch.stack(row) for row in rows])


def assert_same(layer: MixtureOfExperts, x: Tensor, loop: Callable[[Tensor], Tensor]) -> Tensor:
    """Compare values and the gradients of the input and of every parameter."""
    results = []
    for function in (layer, loop):
        leaf = x.clone().requires_grad_()
        layer.zero_grad()
        y = function(leaf)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        grads = {name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None}
        results.append({"output": y.detach(), "input": leaf.grad, **grads})
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], atol=1e-5, rtol=1e-4, msg=name)
    return results[0]["output"]


@pytest.mark.covers("arch.moe")
@each_config
def test_equals_a_loop_over_tokens_with_gradients(config):
    layer = make(config)
    assert_same(layer, torch.randn(3, 7, 22), lambda x: dense_loop(layer, x))


@pytest.mark.covers("arch.moe")
@each_config
def test_capacity_equals_a_loop_that_serves_in_order(config):
    layer = make(config.replace(expert_capacity=0.6))
    capacity = expert_capacity(21, 5, config.experts_per_token, 0.6)
    assert capacity == math.ceil(0.6 * config.experts_per_token * 21 / 5)
    x = torch.randn(3, 7, 22)
    assert_same(layer, x, lambda x: dense_loop(layer, x, capacity))
    assert (dense_loop(layer, x) - layer(x)).abs().amax() > 0.05, "something was dropped"


def test_a_token_without_room_gets_nothing():
    layer = make(BASE.replace(experts_per_token=1, expert_capacity=1.0))
    with torch.no_grad():
        layer.router.weight.copy_(torch.randn(5, 22) * 0.01)
        layer.router.weight[3, 0] = 9
    x = torch.randn(1, 10, 22)
    x[..., 0] = 1  # all want expert 3, which has room for 2
    y = assert_same(layer, x, lambda x: dense_loop(layer, x, 2))
    assert y[0, :2].abs().amin(dim=-1).gt(0).all()
    assert torch.equal(y[0, 2:], torch.zeros(8, 22))
    layer.eval()
    assert layer(x)[0, 2:].abs().amin() > 0, "outside training nobody is turned away"


def test_an_expert_without_tokens_has_a_zero_gradient():
    layer = make(BASE)
    with torch.no_grad():
        # Everything goes to experts 1 and 4. A score of 90 would have a rounding error of 4e-6.
        layer.router.weight[[1, 4], 0] = 9
    x = torch.randn(2, 11, 22)
    x[..., 0] = 1
    assert_same(layer, x, lambda x: dense_loop(layer, x))
    assert layer.up.weight.grad is not None
    used = layer.up.weight.grad.view(5, -1).abs().amax(dim=1) > 0
    assert used.tolist() == [False, True, False, False, True]


def test_what_is_dropped_depends_on_nothing_later():
    layer = make(BASE.replace(expert_capacity=0.5))
    first = torch.randn(3, 17, 22)
    second = first.clone()
    second[:, 9:] = torch.randn(3, 8, 22)
    before, after = layer(first), layer(second)
    torch.testing.assert_close(before[:, :9], after[:, :9])
    assert (before[:, 9:] - after[:, 9:]).abs().amax() > 0.1


class CountCalls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def test_no_loop_over_tokens():
    layer, calls = make(BASE.replace(expert_capacity=1.0)), []
    for length in (23, 211):
        with CountCalls() as counter:
            layer(torch.randn(2, length, 22)).sum().backward()
        calls.append(counter.calls)
    assert calls[0] == calls[1]


def test_the_fused_path_equals_the_plain_one(monkeypatch):
    # The plain one, indexing and sums, runs inside torch.compile and on GPUs.
    layer, x = make(BASE.replace(expert_capacity=0.7)), torch.randn(3, 7, 22)

    def plain(x: Tensor) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            return layer(x)

    assert "Einsum" not in str(layer(x).grad_fn)
    assert_same(layer, x, plain)


def test_the_grouped_kernel_of_gpus_equals_the_loop(monkeypatch):
    # It wants bfloat16 and rows of a multiple of 16 bytes.
    rows, weights = torch.randn(11, 24).bfloat16(), torch.randn(3, 8, 24).bfloat16()
    counts, calls = torch.tensor([4, 0, 7]), []
    kernel = F.grouped_mm
    monkeypatch.setattr(F, "grouped_mm", lambda *a, **k: calls.append(1) or kernel(*a, **k))
    loop = grouped_linear(rows, weights, counts)
    assert not calls
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(grouped_linear(rows, weights, counts), loop)
    assert calls == [1]


def test_grouped_products_under_autocast_are_those_of_linear_layers():
    rows, weights, counts = torch.randn(7, 11), torch.randn(3, 5, 11), torch.tensor([4, 0, 3])
    exact = torch.cat([r @ w.T for r, w in zip(rows.split(counts.tolist()), weights, strict=True)])
    torch.testing.assert_close(grouped_linear(rows, weights, counts), exact)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = grouped_linear(rows, weights, counts)
        assert mixed.dtype == F.linear(rows, weights[0]).dtype == torch.bfloat16
    torch.testing.assert_close(mixed.float(), exact, atol=0.1, rtol=0.02)


def test_the_router_stays_in_float32_under_autocast():
    layer, x = make(BASE), torch.randn(3, 7, 22)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        routing, mixed = layer.route(x.flatten(0, 1)), layer(x)
    assert torch.equal(routing.probabilities, layer.route(x.flatten(0, 1)).probabilities)
    assert routing.probabilities.dtype == torch.float32
    # Same experts, so three digits of bfloat16 remain of values of size one.
    torch.testing.assert_close(mixed.float(), exact, atol=0.1, rtol=0)


# Routing


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 11), st.integers(1, 7), st.integers(0, 2**31))
def test_gates_are_a_softmax_over_the_chosen_scores(n_experts, n_tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n_tokens, n_experts, generator=generator)
    k = 1 + seed % n_experts
    if k > 1:
        routing = route(logits, k)
        chosen = logits.gather(1, routing.experts)
        torch.testing.assert_close(routing.gates, chosen.softmax(-1))
        torch.testing.assert_close(routing.gates.sum(-1), torch.ones(n_tokens))
    routing = route(logits, k, normalize=False)
    torch.testing.assert_close(routing.gates, logits.softmax(-1).gather(1, routing.experts))
    unchosen = torch.ones_like(logits, dtype=torch.bool).scatter(1, routing.experts, False)
    worst = logits.gather(1, routing.experts).amin(-1, keepdim=True)
    assert (logits <= worst)[unchosen].all()
    assert (routing.experts.sort(-1).values.diff(dim=-1) > 0).all(), "no expert twice"


def test_with_one_expert_the_gate_teaches_the_router():
    layer = make(BASE.replace(experts_per_token=1))
    layer(torch.randn(2, 5, 22)).square().sum().backward()
    assert layer.router.weight.grad is not None
    assert layer.router.weight.grad.abs().amax() > 1e-3


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 23), st.integers(0, 9), st.integers(0, 2**31))
def test_grouping_is_a_permutation_sorted_by_expert(n_experts, n_tokens, capacity, seed):
    generator = torch.Generator().manual_seed(seed)
    routing = route(torch.randn(n_tokens, n_experts, generator=generator), 1 + seed % n_experts)
    kept = within_capacity(routing.experts, n_experts, capacity + 1)
    served = torch.bincount(routing.experts[kept], minlength=n_experts)
    wanted = torch.bincount(routing.experts.flatten(), minlength=n_experts)
    assert torch.equal(served, wanted.clamp_max(capacity + 1))

    grouping = group_by_expert(type(routing)(**{**vars(routing), "kept": kept}))
    assert torch.equal(grouping.counts, served)
    assert len(grouping.sources) == kept.sum()
    tokens = torch.arange(n_tokens).unsqueeze(-1).expand_as(kept)
    assert torch.equal(grouping.sources[grouping.slots[kept]], tokens[kept])
    owner = torch.arange(n_experts).repeat_interleave(grouping.counts)
    assert torch.equal(owner[grouping.slots[kept]], routing.experts[kept])


def test_refusals():
    for k in (0, 4):
        with pytest.raises(ValueError, match="must lie between 1 and 3"):
            route(torch.zeros(2, 3), k)


# Balance losses

PROBABILITIES = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.4, 0.5, 0.1]])
MEAN = [0.4, 0.325, 0.275]  # of the columns


def test_switch_loss_by_hand():
    experts = PROBABILITIES.topk(1).indices  # 0, 0, 2, 1
    by_hand = 3 * (2 / 4 * MEAN[0] + 1 / 4 * MEAN[1] + 1 / 4 * MEAN[2])
    assert switch_balance_loss(PROBABILITIES, experts).item() == pytest.approx(by_hand, abs=1e-6)
    experts = PROBABILITIES.topk(2).indices  # 01, 01, 21, 10: shares 3/8, 4/8, 1/8
    by_hand = 3 * (3 / 8 * MEAN[0] + 4 / 8 * MEAN[1] + 1 / 8 * MEAN[2])
    assert switch_balance_loss(PROBABILITIES, experts).item() == pytest.approx(by_hand, abs=1e-6)


def test_gshard_loss_by_hand():
    experts = PROBABILITIES.topk(2).indices
    paper = 1 / 3 * (2 / 4 * MEAN[0] + 1 / 4 * MEAN[1] + 1 / 4 * MEAN[2])
    ours = gshard_balance_loss(PROBABILITIES, experts)
    assert ours.item() == pytest.approx(3**2 * paper, abs=1e-6)
    assert ours.item() != pytest.approx(switch_balance_loss(PROBABILITIES, experts).item())


def test_router_z_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    by_hand = (math.log(2) ** 2 + math.log(4) ** 2) / 2
    assert router_z_loss(logits).item() == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_switch_loss_is_transformers_divided_by_k(k):
    logits = torch.randn(29, 7)
    routing = route(logits, k)
    theirs = load_balancing_loss_func((logits,), num_experts=7, top_k=k)
    assert isinstance(theirs, Tensor)
    torch.testing.assert_close(
        k * switch_balance_loss(routing.probabilities, routing.experts), theirs
    )


def test_even_loads_cost_one_and_the_gradient_takes_from_the_busy():
    even = torch.full((10, 5), 0.2)
    experts = torch.arange(10).unsqueeze(-1) % 5
    assert switch_balance_loss(even, experts).item() == pytest.approx(1)
    probabilities = even.clone().requires_grad_()
    switch_balance_loss(probabilities, experts.where(experts > 1, 1)).backward()
    assert probabilities.grad is not None
    assert probabilities.grad[0].argmax() == 1
    torch.testing.assert_close(
        choice_shares(experts.where(experts > 1, 1), 5)[:2], torch.tensor([0, 0.4])
    )


def test_the_layer_reports_its_loss_in_training_only():
    x = torch.randn(2, 7, 22)
    for kind, formula in (("switch", switch_balance_loss), ("gshard", gshard_balance_loss)):
        layer = make(BASE.replace(balance=kind))
        layer(x)
        routing = layer.route(x.flatten(0, 1))
        assert layer.balance_loss is not None
        expected = formula(routing.probabilities, routing.experts)
        torch.testing.assert_close(layer.balance_loss, expected)
        layer.eval()(x)
        assert layer.balance_loss is None
    layer = make(BASE.replace(balance="none"))
    layer(x)
    assert layer.balance_loss is None


@pytest.mark.covers("arch.moe")
def test_the_loss_keeps_the_load_even():
    """Measured on three seeds as the number of experts in use, the exponential of the entropy."""
    config = BASE.replace(n_experts=8, experts_per_token=1, init_std=0.1)

    def experts_in_use(seed: int, weight: float) -> float:
        generator = torch.Generator().manual_seed(seed)
        matrix = torch.randn(22, 22, generator=generator) / 22**0.5
        common = torch.randn(22, generator=generator)  # hidden states share a direction
        torch.manual_seed(seed)
        layer = MixtureOfExperts(config)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        x = common.expand(4, 32, 22)
        for _ in range(70):
            x = torch.randn(4, 32, 22, generator=generator) + common
            error = (layer(x) - torch.tanh(x @ matrix)).square().mean()
            assert layer.balance_loss is not None
            (error + weight * layer.balance_loss).backward()
            optimizer.step()
            optimizer.zero_grad()
        return torch.special.entr(layer.route(x.flatten(0, 1)).load).sum().exp().item()

    without = [experts_in_use(seed, 0.0) for seed in range(3)]
    balanced = [experts_in_use(seed, 0.1) for seed in range(3)]
    assert max(without) < 2, without  # all tokens go to one
    assert min(balanced) > 6, balanced  # of 8


# In the decoder


def test_the_decoder_with_experts():
    torch.manual_seed(5)
    model = Transformer(BASE.replace(n_shared_experts=1, expert_capacity=0.7))
    ids = torch.randint(31, (3, 19))
    model(ids)
    total = model.balance_loss()
    layers = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    losses = [layer.balance_loss for layer in layers if layer.balance_loss is not None]
    assert total is not None
    assert len(losses) == 2
    torch.testing.assert_close(total, 0.01 * torch.stack(losses).mean())
    copied = copy.deepcopy(model)  # the losses' graphs are left behind
    assert copied.balance_loss() is None
    model.eval()
    cache = model.new_cache(3, 19)
    logits = torch.cat([model(part, cache=cache) for part in ids.split((7, 1, 11), dim=1)], dim=1)
    torch.testing.assert_close(logits, model(ids), atol=1e-4, rtol=1e-4)


def test_stacked_rows_name_every_matrix():
    model = Transformer(BASE.replace(n_shared_experts=1))
    shapes = {name: p.shape for name, p in model.named_parameters()}
    rows = model.stacked_rows
    assert rows["blocks.0.feedforward.up.weight"] == (13,) * 10
    assert rows["blocks.0.feedforward.out.weight"] == (22,) * 5
    assert rows["blocks.1.feedforward.shared.up.weight"] == (13, 13)
    for name, parts in rows.items():
        assert sum(parts) == shapes[name][0]
