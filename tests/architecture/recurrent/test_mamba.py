"""Mamba: the chunked scan equals the recurrence, pieces equal the whole, and it trains."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, StateCache
from llmlib.architecture.recurrent import (
    Mamba,
    recurrent_selective_scan,
    selective,
    selective_scan,
)
from llmlib.core.hardware.memory import tracked_allocations
from tests.architecture.recurrent.comparisons import assert_learns_to_recall, exactly_equal

B, T, D, N = 3, 29, 13, 5
CONFIG = ModelConfig(
    vocab_size=11, d_model=D, n_layers=2, n_heads=1, max_seq_len=T, mixer="mamba",
    state_dim=N, conv_kernel=3, expand=3,
)  # fmt: skip


def arguments(
    n_tokens: int, dtype: torch.dtype = torch.float64, width: int = D, state_dim: int = N
) -> list[Tensor]:
    g = torch.Generator().manual_seed(n_tokens)
    token, state = (B, n_tokens, width), (B, n_tokens, state_dim)
    shapes = (token, token, (width, state_dim), state, state, (B, width, state_dim))
    x, steps, rates, *others = (torch.randn(shape, generator=g, dtype=dtype) for shape in shapes)
    return [t.requires_grad_() for t in (x, steps.exp(), -rates.exp(), *others)]


def layer(dtype: torch.dtype = torch.float64) -> Mamba:
    torch.manual_seed(3)
    mamba = Mamba(CONFIG).to(dtype)
    with torch.no_grad():  # steps of about one, so that the state forgets within the text
        mamba.step.bias.add_(4)
        mamba.log_rates.sub_(1)
    return mamba


@pytest.mark.covers("arch.mamba")
@pytest.mark.parametrize(("chunk", "step"), [(2**18, 2**14), (13 * 5 * 8, 1), (500, 130)])
def test_selective_scan_and_its_gradients_equal_the_recurrence(chunk, step, monkeypatch):
    monkeypatch.setattr(selective, "CHUNK_SIZE", chunk)
    monkeypatch.setattr(selective, "STEP_SIZE", step)
    inputs = arguments(T)
    actual, expected = selective_scan(*inputs), recurrent_selective_scan(*inputs)
    exactly_equal(actual, expected)
    exactly_equal(*(torch.autograd.grad(y.sin().sum() + h.sin().sum(), inputs)
                    for y, h in (actual, expected)))  # fmt: skip


def test_gradient_equals_finite_differences(monkeypatch):
    monkeypatch.setattr(selective, "CHUNK_SIZE", 1)  # chunks of eight tokens
    assert torch.autograd.gradcheck(selective_scan, arguments(9, width=3, state_dim=2))


def test_the_states_of_all_tokens_are_never_held_at_once(monkeypatch):
    monkeypatch.setattr(selective, "CHUNK_SIZE", 2**12)
    width, n_tokens, state_dim = 127, 101, 37
    inputs = arguments(n_tokens, torch.float32, width, state_dim)
    all_states = B * n_tokens * width * state_dim * 4
    with tracked_allocations() as ours:
        selective_scan(*inputs)[0].sum().backward()
    with tracked_allocations() as naive:
        recurrent_selective_scan(*inputs)[0].sum().backward()
    assert naive.peak_bytes > 2 * all_states
    assert ours.peak_bytes < 0.6 * all_states


@pytest.mark.covers("arch.mamba")
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, T - 1), max_size=5, unique=True))
def test_any_pieces_equal_the_whole(cuts):
    mamba = layer()
    x = torch.randn(B, T, D, dtype=torch.float64)
    cache = StateCache.allocate(2)
    bounds = [0, *sorted(cuts), T]
    with torch.no_grad():
        pieces = [
            mamba(x[:, i:j], cache=cache, layer=1) for i, j in zip(bounds, bounds[1:], strict=False)
        ]
        exactly_equal(torch.cat(pieces, dim=1), mamba(x))
    assert cache.get(0) is None


@pytest.mark.covers("arch.mamba")
def test_token_by_token_equals_the_whole_with_a_state_of_constant_size():
    mamba, sizes = layer(), set()
    x = torch.randn(B, T, D, dtype=torch.float64)
    cache = StateCache.allocate(1)
    with torch.no_grad():
        outputs = []
        for t in range(T):
            outputs.append(mamba(x[:, t : t + 1], cache=cache))
            sizes.add(cache.nbytes)
        exactly_equal(torch.cat(outputs, dim=1), mamba(x))
    inner = CONFIG.expand * D
    assert sizes == {8 * B * inner * (N + CONFIG.conv_kernel - 1)}
    state = cache.get(0)
    assert state is not None
    assert sum(s.untyped_storage().nbytes() for s in state.values()) == sizes.pop()


def test_layer_equals_the_formula_written_out():
    mamba = layer()
    x = torch.randn(B, T, D, dtype=torch.float64)
    inner, gate = (x @ mamba.up.weight.T).chunk(2, dim=-1)
    taps, padded = mamba.taps, F.pad(inner, (0, 0, 2, 0))
    convolved = sum(padded[:, 2 - s : 2 - s + T] * taps[:, s] for s in range(3))
    u = F.silu(convolved + mamba.conv_bias)
    low, b, c = (u @ mamba.select.weight.T).split((1, N, N), dim=-1)
    delta = (1 + (low @ mamba.step.weight.T + mamba.step.bias).exp()).log()
    h = torch.zeros(B, 3 * D, N, dtype=torch.float64)
    for t in range(T):
        d = delta[:, t, :, None]
        h = (-d * mamba.log_rates.exp()).exp() * h + d * u[:, t, :, None] * b[:, t, None]
        y = (h * c[:, t, None]).sum(-1) + mamba.skip * u[:, t]
        expected = (y * F.silu(gate[:, t])) @ mamba.out.weight.T
        exactly_equal(mamba(x)[:, t], expected)


def test_initialization_is_the_papers():
    wide = CONFIG.replace(d_model=509)
    torch.manual_seed(0)
    mamba = Mamba(wide)
    rates = -mamba.log_rates.exp()
    torch.testing.assert_close(rates, -torch.arange(1.0, N + 1).expand_as(rates))
    steps = F.softplus(mamba.step.bias)
    assert 0.00099 < steps.min() < 0.0012
    assert 0.085 < steps.max() < 0.101
    assert abs(steps.log().mean() - math.log(0.01)) < 0.1, "uniform in the logarithm"
    assert mamba.rank == 32
    assert mamba.step.weight.abs().max() <= 32**-0.5


def test_half_precision_keeps_the_state_in_float32():
    mamba = layer(torch.float32)
    x = torch.randn(B, T, D)
    cache = StateCache.allocate(1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        y = mamba(x, cache=cache)
    state = cache.get(0)
    assert state is not None
    assert state["ssm"].dtype == torch.float32
    torch.testing.assert_close(y.float(), mamba(x), atol=0.05, rtol=0.05)


@pytest.mark.covers("arch.mamba")
def test_gradients_are_finite_at_1024_tokens_and_a_copying_task_is_learned():
    config = CONFIG.replace(max_seq_len=1024, d_model=32, n_layers=1, state_dim=7, conv_kernel=2)

    def draw() -> tuple[Tensor, Tensor]:
        """The token after the mark, nine others, the mark: what followed it?"""
        tokens = torch.randint(10, (32, 12))
        tokens[:, [0, -1]] = 10
        return tokens, tokens[:, 1]

    assert_learns_to_recall(config, draw, steps=160)
