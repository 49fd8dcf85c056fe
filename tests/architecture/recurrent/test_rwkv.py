"""RWKV: the parallel form equals the recurrent one and the quadratic definition, and it trains."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, StateCache
from llmlib.architecture.recurrent import ChannelMix, TimeMix, parallel_wkv, recurrent_wkv
from tests.architecture.recurrent.comparisons import assert_learns_to_recall, exactly_equal

B, T, D = 3, 29, 13
CONFIG = ModelConfig(
    vocab_size=11, d_model=D, n_layers=3, n_heads=1, max_seq_len=T, mixer="rwkv", d_ff=31,
    norm="layer", norm_bias=True, embedding_norm=True,
)  # fmt: skip


def arguments(n_tokens: int, scale: float = 1.0) -> list[Tensor]:
    g = torch.Generator().manual_seed(n_tokens)
    shapes = ((D,), (D,), (B, n_tokens, D), (B, n_tokens, D))
    rates, bonus, keys, values = (
        torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes
    )
    return [t.requires_grad_() for t in (rates.exp(), bonus, keys * scale, values)]


def by_definition(rates: Tensor, bonus: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """A softmax over the past of exponents that fall with age: quadratic, one channel at a time."""
    outputs = []
    for t in range(keys.shape[1]):
        ages = torch.arange(t - 1, -1, -1, dtype=keys.dtype)
        past = keys[:, :t] - ages[:, None] * rates  # [B, t, D]
        exponents = torch.cat((past, (bonus + keys[:, t]).unsqueeze(1)), dim=1)
        outputs.append((exponents.softmax(dim=1) * values[:, : t + 1]).sum(1))
    return torch.stack(outputs, dim=1)


@pytest.mark.covers("arch.rwkv")
@pytest.mark.parametrize("n_tokens", [1, 2, T])
def test_both_forms_and_their_gradients_equal_the_definition(n_tokens):
    inputs = arguments(n_tokens, scale=3.0)
    expected = by_definition(*inputs)

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        # The first output holds the first value alone: it depends on no rate.
        return torch.autograd.grad(y.sin().sum(), inputs, materialize_grads=True)

    expected_gradients = gradients(expected)
    rates, bonus, keys, values = inputs
    for form in (parallel_wkv, recurrent_wkv):
        actual, _ = form(rates, bonus, keys, values)
        exactly_equal(actual, expected)
        exactly_equal(gradients(actual), expected_gradients)


@pytest.mark.covers("arch.rwkv")
@settings(max_examples=25, deadline=None)
@given(cut=st.integers(1, T - 1))
def test_either_form_goes_on_from_the_others_state(cut):
    rates, bonus, keys, values = (x.detach() for x in arguments(T))
    whole, last = parallel_wkv(rates, bonus, keys, values)
    exactly_equal(recurrent_wkv(rates, bonus, keys, values), (whole, last))
    for first, second in ((parallel_wkv, recurrent_wkv), (recurrent_wkv, parallel_wkv)):
        start, state = first(rates, bonus, keys[:, :cut], values[:, :cut])
        end, after = second(rates, bonus, keys[:, cut:], values[:, cut:], state)
        exactly_equal(torch.cat((start, end), dim=1), whole)
        exactly_equal(after, last)


@pytest.mark.parametrize("form", [parallel_wkv, recurrent_wkv])
def test_keys_of_hundreds_neither_overflow_nor_vanish(form):
    # e^500 overflows even float64; weights that fall by e^-20 a token vanish without a maximum.
    keys = torch.linspace(500, -500, 499).expand(1, D, 499).mT.contiguous().requires_grad_()
    values = torch.randn(1, 499, D)
    rates, bonus = torch.linspace(0.001, 20, D), torch.zeros(D)
    actual, _ = form(rates, bonus, keys, values)
    expected = by_definition(rates.double(), bonus.double(), keys.double(), values.double())
    torch.testing.assert_close(actual.double(), expected, atol=1e-3, rtol=1e-3)
    actual.sum().backward()
    assert keys.grad is not None
    assert keys.grad.isfinite().all()


def layers() -> tuple[TimeMix, ChannelMix]:
    torch.manual_seed(5)
    config = CONFIG.replace(init_std=0.5)
    return TimeMix(config, 1).double(), ChannelMix(config, 1).double()


@pytest.mark.covers("arch.rwkv")
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, T - 1), max_size=5, unique=True))
def test_any_pieces_equal_the_whole_with_both_shifts_in_one_cache(cuts):
    time_mix, channel_mix = layers()
    x = torch.randn(B, T, D, dtype=torch.float64)
    cache = StateCache.allocate(2)
    bounds = [0, *sorted(cuts), T]
    with torch.no_grad():
        pieces = [
            channel_mix(time_mix(x[:, i:j], cache=cache, layer=1), cache=cache, layer=1)
            for i, j in zip(bounds, bounds[1:], strict=False)
        ]
        exactly_equal(torch.cat(pieces, dim=1), channel_mix(time_mix(x)))
    state = cache.get(1)
    assert state is not None
    assert cache.nbytes == 8 * 5 * B * D, "two shifts, numerator, denominator and maximum"
    assert sum(s.untyped_storage().nbytes() for s in state.values()) == cache.nbytes


def test_layers_equal_their_formulas():
    time_mix, channel_mix = layers()
    x = torch.randn(B, T, D, dtype=torch.float64)
    old = F.pad(x, (0, 0, 1, 0))[:, :-1]

    def mixed(mix: Tensor) -> Tensor:
        return mix * x + (1 - mix) * old

    r = mixed(time_mix.mix_receptance) @ time_mix.receptance.weight.T
    k = mixed(time_mix.mix_key) @ time_mix.key.weight.T
    v = mixed(time_mix.mix_value) @ time_mix.value.weight.T
    wkv = by_definition(time_mix.log_rates.exp(), time_mix.bonus, k, v)
    exactly_equal(time_mix(x), (r.sigmoid() * wkv) @ time_mix.out.weight.T)
    r = mixed(channel_mix.mix_receptance) @ channel_mix.receptance.weight.T
    k = mixed(channel_mix.mix_key) @ channel_mix.key.weight.T
    hidden = k.clamp_min(0) ** 2 @ channel_mix.out.weight.T
    exactly_equal(channel_mix(x), r.sigmoid() * hidden)


def test_initial_decays_and_mixes_follow_layer_and_channel():
    first, last = TimeMix(CONFIG, 0), TimeMix(CONFIG, 2)
    for mixer, exponent in ((first, 0.7), (last, 2.0)):
        rates = mixer.log_rates
        assert (rates[0].item(), round(rates[-1].item(), 5)) == (-5, 3)
        # Numbers of size 5 are subtracted: what is left keeps their rounding.
        assert math.isclose(rates[6].item(), -5 + 8 * 0.5**exponent, abs_tol=1e-5)
    assert first.bonus[:3].sub(math.log(0.3)).round(decimals=5).tolist() == [0.0, 0.5, -0.5]
    torch.testing.assert_close(first.mix_key, torch.arange(13) / 13)
    torch.testing.assert_close(last.mix_key, (torch.arange(13) / 13) ** (1 / 3))
    torch.testing.assert_close(last.mix_value, last.mix_key + 0.3)
    torch.testing.assert_close(last.mix_receptance, (torch.arange(13) / 13) ** (1 / 6))
    assert torch.equal(ChannelMix(CONFIG, 2).mix_key, last.mix_key)


def test_one_layer_and_one_channel_have_an_initialization():
    mixer = TimeMix(CONFIG.replace(n_layers=1, d_model=1, head_dim=1), 0)
    assert all(p.isfinite().all() for p in mixer.parameters())


@pytest.mark.covers("arch.rwkv")
def test_gradients_are_finite_at_1024_tokens_and_a_copying_task_is_learned():
    config = CONFIG.replace(max_seq_len=1024, d_model=32, n_layers=2, d_ff=64)

    def draw() -> tuple[Tensor, Tensor]:
        """The first token, nine others, a mark: what was the first?"""
        tokens = torch.cat((torch.randint(10, (32, 10)), torch.full((32, 1), 10)), dim=1)
        return tokens, tokens[:, 0]

    assert_learns_to_recall(config, draw, steps=120)
