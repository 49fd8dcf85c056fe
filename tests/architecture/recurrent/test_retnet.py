"""Retention: the parallel, recurrent and chunkwise forms agree."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from llmlib.architecture.caches.state_cache import StateCache
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.context import Context
from llmlib.architecture.recurrent.retnet import (
    Retention,
    chunked_retention,
    parallel_retention,
    recurrent_retention,
    retention_decays,
)
from tests.architecture.recurrent.comparisons import (
    assert_causal,
    assert_every_parameter_learns,
    exactly_equal,
)

B, H, K, KV, T = 2, 3, 10, 7, 53
CONFIG = ModelConfig(vocab_size=2, d_model=22, n_layers=3, n_heads=H, head_dim=K, max_seq_len=T)
# Its group norm divides a row's factor out but for this.
SHARP = CONFIG.replace(norm_eps=1e-15)


def inputs(n_tokens: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    shapes = ((B, H, n_tokens, K), (B, H, n_tokens, K), (B, H, n_tokens, KV))
    return tuple(torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)


def context(start: int, n_tokens: int) -> Context:
    positions = torch.arange(start, start + n_tokens)[None]
    return Context(queries=positions, keys=torch.arange(start + n_tokens)[None])


@pytest.mark.covers("arch.retnet")
def test_every_form_equals_the_definition():
    q, k, v = inputs(11)
    decays = torch.tensor([0.5, 0.9, 0.99], dtype=torch.float64)
    expected = torch.zeros(B, H, 11, KV, dtype=torch.float64)
    for head in range(H):
        for t in range(11):
            for s in range(t + 1):
                score = (q[:, head, t] * k[:, head, s]).sum(-1, keepdim=True)
                expected[:, head, t] += decays[head] ** (t - s) * score * v[:, head, s]
    exactly_equal(parallel_retention(q, k, v, decays), expected)
    exactly_equal(recurrent_retention(q, k, v, decays)[0], expected)
    exactly_equal(chunked_retention(q, k, v, decays, chunk=4)[0], expected)


@pytest.mark.covers("arch.retnet")
@settings(max_examples=30, deadline=None)
@given(n_tokens=st.integers(1, T), chunk=st.integers(1, 60), split=st.integers(0, T))
def test_three_forms_agree_for_any_chunk_and_any_cut(n_tokens, chunk, split):
    q, k, v = inputs(n_tokens, seed=chunk)
    decays = retention_decays(H).double()
    whole = parallel_retention(q, k, v, decays)
    recurrent, last = recurrent_retention(q, k, v, decays)
    exactly_equal(recurrent, whole)
    cut = min(split, n_tokens)
    state, outputs = None, []
    for part in (slice(cut), slice(cut, None)):
        if q[:, :, part].shape[2]:
            y, state = chunked_retention(
                q[:, :, part], k[:, :, part], v[:, :, part], decays, state, chunk
            )
            outputs.append(y)
    exactly_equal(torch.cat(outputs, dim=2), whole)
    exactly_equal(state, last)


def test_decays_are_the_published_ones():
    assert retention_decays(3).tolist() == [31 / 32, 63 / 64, 127 / 128]
    assert (retention_decays(16) < 1).all()


def test_long_texts_stay_exact():
    q, k, v = (x.float() for x in inputs(2003))
    decays = retention_decays(H)
    chunked, _ = chunked_retention(q, k, v, decays)
    exact = parallel_retention(q.double(), k.double(), v.double(), decays.double())
    torch.testing.assert_close(chunked.double(), exact, atol=1e-3, rtol=1e-4)
    with pytest.raises(ValueError, match="one token or more"):
        chunked_retention(q, k, v, decays, chunk=0)


@pytest.fixture
def layer() -> Retention:
    torch.manual_seed(1)
    layer = Retention(SHARP).double().eval()
    with torch.no_grad():  # larger weights than at the start, so that mistakes show
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                parameter.mul_(10)
    return layer


@pytest.mark.covers("arch.retnet")
@pytest.mark.parametrize("pieces", [(T,), (1,) * T, (7, 1, 1, 11, 33)])
def test_decoding_with_a_state_equals_training(layer, pieces):
    x = torch.randn(B, T, 22, dtype=torch.float64)
    cache, outputs, start = StateCache.allocate(2), [], 0
    for piece in x.split(pieces, dim=1):
        outputs.append(layer(piece, context(start, piece.shape[1]), cache, 1))
        start += piece.shape[1]
    # The decays are float32 numbers, and their powers are exponentials of float32 products that
    # reach 53 log(32 / 31) = 1.7: right to 2e-7.
    torch.testing.assert_close(torch.cat(outputs, 1), layer(x, context(0, T)), atol=1e-6, rtol=1e-6)
    assert cache.nbytes == B * H * K * K * 8


def test_the_layer_equals_its_formula(layer):
    # Written out without the module's own pieces, the paper's third normalization included: the
    # group norm divides it out again.
    x = torch.randn(B, T, 22, dtype=torch.float64)
    q, k, v, gate = F.linear(x, layer.qkvg.weight).split(H * K, dim=-1)
    q, k, v = (y.unflatten(-1, (H, K)).transpose(1, 2) for y in (q, k, v))
    angle = torch.arange(T)[:, None] * 10_000 ** (-torch.arange(0, K, 2) / K)

    def turn(y: torch.Tensor) -> torch.Tensor:
        pairs = torch.complex(y[..., : K // 2], y[..., K // 2 :])
        turned = pairs * torch.polar(torch.ones_like(angle), angle)
        return torch.cat((turned.real, turned.imag), dim=-1)

    ages = torch.arange(T)[:, None] - torch.arange(T)
    decays = (1 - 2.0 ** (-5 - torch.arange(H, dtype=torch.float64)))[:, None, None]
    mask = (decays ** ages.clamp_min(0)).tril()
    mask = mask / mask.sum(-1, keepdim=True).sqrt()
    scores = turn(q) @ turn(k).mT / K**0.5 * mask
    scores = scores / scores.sum(-1, keepdim=True).abs().clamp_min(1)
    heads = scores @ v
    normed = (heads - heads.mean(-1, keepdim=True)) / heads.var(-1, False, keepdim=True).sqrt()
    expected = F.linear(F.silu(gate) * normed.transpose(1, 2).flatten(2), layer.out.weight)
    torch.testing.assert_close(layer(x, context(0, T)), expected, atol=1e-4, rtol=1e-4)


def test_a_query_carries_one_over_the_roots_of_k_and_of_its_decays(layer):
    x = torch.randn(B, T, 22, dtype=torch.float64)
    positions = torch.arange(7, 7 + T)[None]
    queries, _, _, _ = layer.project(x, positions)
    raw = (x @ layer.qkvg.weight[: H * K].mT).unflatten(-1, (H, K)).transpose(1, 2)
    factor = queries.norm(dim=-1) / raw.norm(dim=-1)  # a rotation keeps the length
    for head in range(H):
        gamma = 1 - 2.0 ** (-5 - head)
        sums = [sum(gamma**age for age in range(7 + t + 1)) for t in range(T)]
        expected = (torch.tensor(sums, dtype=torch.float64) * K).rsqrt().expand(B, T)
        torch.testing.assert_close(factor[:, head], expected, atol=1e-5, rtol=1e-5)


def test_the_layer_is_causal_and_sees_offsets_only(layer):
    x = torch.randn(B, T, 22, dtype=torch.float64)
    assert_causal(lambda tokens: layer(tokens, context(0, T)), x, change=1e-4)
    # Angles are rounded to float32, hence the tolerance.
    shifted, expected = layer(x, context(1009, T)), layer(x, context(0, T))
    torch.testing.assert_close(shifted, expected, atol=1e-3, rtol=1e-3)


def test_without_positions_only_the_decay_tells_the_order(layer):
    torch.manual_seed(1)
    unturned = Retention(SHARP.replace(position="none")).double()
    unturned.load_state_dict(layer.state_dict())
    x = torch.randn(B, T, 22, dtype=torch.float64)
    keys = unturned.project(x, context(0, T).queries)[1]
    raw = (x @ layer.qkvg.weight[H * K : 2 * H * K].mT).unflatten(-1, (H, K)).transpose(1, 2)
    exactly_equal(keys, raw)
    assert (unturned(x, context(0, T)) - layer(x, context(0, T))).abs().max() > 1e-2


def test_every_parameter_learns(layer):
    assert_every_parameter_learns(
        layer.train(), layer(torch.randn(B, T, 22, dtype=torch.float64), context(0, T))
    )


@pytest.mark.parametrize("n_heads", [2, 11])
def test_bfloat16_keeps_every_decay_below_one(n_heads):
    torch.manual_seed(2)
    config = CONFIG.replace(n_heads=n_heads, n_kv_heads=n_heads)
    layer = Retention(config)
    x = torch.randn(B, T, 22)
    exact = layer(x, context(0, T))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x, context(0, T))
    torch.testing.assert_close(mixed.float(), exact, atol=5e-3, rtol=0.1)
    low = layer.bfloat16()(x.bfloat16(), context(0, T))
    torch.testing.assert_close(low.float(), exact, atol=2e-2, rtol=0.2)


def test_queries_are_not_turned_without_positions():
    with pytest.raises(ValueError, match="give it a context"):
        Retention(SHARP)(torch.ones(1, 3, SHARP.d_model))
