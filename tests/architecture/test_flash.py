"""FlashAttention written out: equal to the definition, in linear memory, with counted traffic."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from llmlib.architecture import causal_mask
from llmlib.architecture import scaled_dot_product_attention as attend
from llmlib.architecture.attention.flash import (
    Tiles,
    Traffic,
    flash_attention,
    standard_traffic,
    tile_sizes,
    tiled_traffic,
)
from llmlib.core.hardware.memory import tracked_allocations

Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def inputs(
    n_queries: int, n_keys: int, heads: int = 6, kv_heads: int = 2, dtype=torch.float32
) -> Three:
    torch.manual_seed(n_queries)
    queries = torch.randn(3, heads, n_queries, 7, dtype=dtype, requires_grad=True)
    keys = torch.randn(3, kv_heads, n_keys, 7, dtype=dtype, requires_grad=True)
    values = torch.randn(3, kv_heads, n_keys, 5, dtype=dtype, requires_grad=True)
    return queries, keys, values


def by_definition(queries, keys, values, *, causal: bool) -> torch.Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
    mask = causal_mask(queries.shape[2], keys.shape[2]) if causal else None
    return attend(queries, keys, values, mask)


@pytest.mark.covers("arch.attn-flash")
@pytest.mark.parametrize("causal", [False, True])
@settings(deadline=None, max_examples=25)
@given(
    n_queries=st.integers(1, 37),
    more_keys=st.integers(0, 11),
    block_queries=st.integers(1, 41),
    block_keys=st.integers(1, 41),
    kv_heads=st.sampled_from((1, 2, 6)),
)
def test_output_and_gradients_equal_the_definition(
    causal, n_queries, more_keys, block_queries, block_keys, kv_heads
):
    three = inputs(n_queries, n_queries + more_keys, kv_heads=kv_heads)
    ours = flash_attention(
        *three, causal=causal, block_queries=block_queries, block_keys=block_keys
    )
    expected = by_definition(*three, causal=causal)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, three, direction),
        torch.autograd.grad(expected, three, direction),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.covers("arch.attn-flash")
@pytest.mark.parametrize("causal", [False, True])
def test_gradients_equal_finite_differences(causal):
    three = tuple(x[:1].detach().requires_grad_() for x in inputs(5, 7, 2, 1, torch.float64))

    def run(queries, keys, values):
        return flash_attention(queries, keys, values, causal=causal, block_queries=2, block_keys=3)

    assert torch.autograd.gradcheck(run, three)


def test_scores_in_the_hundreds_do_not_overflow():
    # In float64, where exp overflows from 709 on: of a score of 1,000 float32 keeps four decimals.
    queries, keys, values = inputs(23, 23, dtype=torch.float64)
    queries, keys = 30 * queries.detach(), 30 * keys.detach()
    ours = flash_attention(queries, keys, values, causal=True, block_queries=5, block_keys=3)
    expected = by_definition(queries, keys, values, causal=True)
    assert (queries @ keys.repeat_interleave(3, 1).mT).max() / 7**0.5 > 1000
    torch.testing.assert_close(ours, expected)


def test_bfloat16_sums_in_float32():
    three = tuple(x.detach().bfloat16() for x in inputs(211, 211))
    exact = by_definition(*(x.float() for x in three), causal=True)
    ours = flash_attention(*three, causal=True, block_queries=8, block_keys=8)
    assert ours.dtype == torch.bfloat16
    # One rounding at last, by half of a bfloat16's last place; before it those of float32's sums.
    torch.testing.assert_close(ours.float(), exact, atol=1e-5, rtol=2**-8)


def test_tiles_above_the_diagonal_are_not_computed(monkeypatch):
    computed = []
    original = Tiles.scores

    def spy(self, queries, keys, row, column):
        computed.append((row, column))
        return original(self, queries, keys, row, column)

    monkeypatch.setattr(Tiles, "scores", spy)
    flash_attention(*inputs(24, 24), causal=True, block_queries=4, block_keys=8)
    assert sorted(computed) == [
        (r, c) for r in range(0, 24, 4) for c in range(0, 24, 8) if c < r + 4
    ]
    computed.clear()
    flash_attention(*inputs(3, 24), causal=True, block_queries=4, block_keys=8)
    assert len(computed) == 3  # the last three queries see everything


def extra_bytes(n_tokens: int, *, tiled: bool) -> int:
    three = tuple(torch.randn(1, 2, n_tokens, 16, requires_grad=True) for _ in range(3))
    with tracked_allocations() as memory:
        if tiled:
            out = flash_attention(*three, causal=True, block_queries=32, block_keys=64)
        else:
            out = by_definition(*three, causal=True)
        out.sum().backward()
    return memory.peak_bytes


@pytest.mark.covers("arch.attn-flash")
def test_memory_is_linear_in_the_length():
    tiled = [extra_bytes(n, tiled=True) for n in (256, 512, 1024)]
    plain = [extra_bytes(n, tiled=False) for n in (256, 512, 1024)]
    assert 1.99 < (tiled[2] - tiled[1]) / (tiled[1] - tiled[0]) < 2.01
    assert 1.75 < tiled[2] / tiled[1] < 2  # below 2, since a tile's own memory does not grow
    for a, b in zip(plain, plain[1:], strict=False):
        assert 3.8 < b / a < 4.05
    assert tiled[-1] < plain[-1] / 20


class KernelTraffic(TorchDispatchMode):
    """Counts what each kernel reads and writes, views aside: every operation is a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if "bmm" in str(func) or "softmax" in str(func):
            self.traffic.read += sum(x.numel() for x in args if isinstance(x, torch.Tensor))
            self.traffic.written += result.numel()
        return result


@pytest.mark.covers("arch.attn-flash")
def test_counted_traffic_equals_the_formulas():
    n_tokens, width, fast_memory = 211, 13, 1009
    queries, keys, values = (torch.randn(1, 1, n_tokens, width) for _ in range(3))
    with KernelTraffic() as kernels:
        (queries @ keys.mT).softmax(dim=-1) @ values
    assert kernels.traffic == standard_traffic(n_tokens, width)

    block_queries, block_keys = tile_sizes(width, fast_memory)
    for causal in (False, True):
        traffic = Traffic()
        flash_attention(
            queries,
            keys,
            values,
            causal=causal,
            block_queries=block_queries,
            block_keys=block_keys,
            traffic=traffic,
        )
        assert traffic == tiled_traffic(n_tokens, width, fast_memory, causal=causal)
        assert traffic.total == traffic.read + traffic.written
    n_tiles = -(-n_tokens // block_queries)
    whole = tiled_traffic(n_tokens, width, fast_memory)
    assert whole.read == n_tokens * width * (1 + 2 * n_tiles)
    assert whole.written == n_tokens * (width + 1)


def test_a_tile_fits_into_fast_memory():
    for width, fast_memory in ((13, 1009), (64, 50_000), (5, 27), (128, 2000)):
        block_queries, block_keys = tile_sizes(width, fast_memory)
        held = 2 * block_queries * width + 2 * block_keys * width
        held += block_queries * block_keys + 2 * block_queries
        assert held <= fast_memory
        assert (block_queries + 1) * (5 * width + 2) > fast_memory
    with pytest.raises(ValueError, match="one query"):
        tile_sizes(64, 321)


def test_traffic_falls_as_fast_memory_grows():
    """Theta(T^2 K^2 / M): constant when multiplied by M / (T K)^2."""
    ratios = [
        tiled_traffic(n_tokens, width, fast_memory).total * fast_memory / (n_tokens * width) ** 2
        for n_tokens in (2**13, 2**14, 2**15)
        for width in (64, 128)
        for fast_memory in (2**13, 2**15)
    ]
    assert max(ratios) / min(ratios) < 1.15
    assert all(9.9 < ratio < 11.5 for ratio in ratios)  # the constant is 2 (5 K + 2) / K
    half = tiled_traffic(2**13, 64, 2**13, causal=True).read / tiled_traffic(2**13, 64, 2**13).read
    assert 0.5 < half < 0.53


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [((5, 5, 3, 2), {}, "cannot serve"), ((5, 3, 2, 2), {"causal": True}, "itself too"),
     ((5, 5, 2, 2), {"block_keys": 0}, "use 1 or more")],
)  # fmt: skip
def test_impossible_inputs_are_refused(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        flash_attention(*inputs(*shapes), **options)
