"""The fused pieces equal the plain ones, values and gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from llmlib.architecture import attention_weights, causal_mask, scaled_dot_product_attention
from llmlib.architecture.attention.blocked import blocked_causal_attention, causal_attention
from llmlib.architecture.kernels.fused import rms_norm, rotate, swiglu
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies


def grads(output: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return list(torch.autograd.grad(output, inputs, weights))


def assert_same(ours, plain, *inputs: torch.Tensor) -> None:
    leaves = [x.requires_grad_() for x in inputs]
    first, second = ours(*leaves), plain(*leaves)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    for a, b in zip(grads(first, leaves), grads(second, leaves), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_rms_norm_equals_torch():
    assert_same(
        lambda x, w: rms_norm(x, w, 1e-5),
        lambda x, w: F.rms_norm(x, (37,), w, 1e-5),
        torch.randn(3, 11, 37),
        torch.randn(37),
    )


def test_rms_norm_keeps_double_precision():
    x, w = torch.randn(3, 7, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    expected = F.rms_norm(x, (7,), w, 1e-5)
    torch.testing.assert_close(rms_norm(x, w, 1e-5), expected, atol=1e-13, rtol=1e-13)


def test_swiglu_equals_its_formula():
    assert_same(
        swiglu,
        lambda x: x[..., :29] * torch.sigmoid(x[..., :29]) * x[..., 29:],
        torch.randn(3, 7, 58),
    )


def test_rotation_is_a_complex_product():
    cos, sin = rope_angles(torch.arange(11)[None], rope_frequencies(14))

    def plain(x: torch.Tensor) -> torch.Tensor:
        turned = torch.complex(*x.chunk(2, -1)) * torch.complex(cos, sin)[:, :, None]
        return torch.cat((turned.real, turned.imag), -1)

    assert_same(lambda x: rotate(x, cos, sin), plain, torch.randn(3, 11, 5, 14))


def test_rotation_keeps_lengths():
    x = torch.randn(2, 13, 3, 10)
    turned = rotate(x, *rope_angles(torch.arange(13)[None], rope_frequencies(10)))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert (turned[:, 1:] - x[:, 1:]).abs().amax() > 0.1


@pytest.mark.parametrize("block", [1, 5, 16, 64])
@pytest.mark.parametrize("kv_heads", [6, 3, 1])
def test_blocked_attention_equals_the_fused_kernel(block, kv_heads):
    q, k, v = (torch.randn(2, heads, 37, 10) for heads in (6, kv_heads, kv_heads))
    assert_same(
        lambda q, k, v: blocked_causal_attention(q, k, v, block),
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        q,
        k,
        v,
    )


def test_bfloat16_training_takes_the_blocks_and_stays_close():
    q, k, v = (torch.randn(2, 3, 131, 16, dtype=torch.bfloat16) for _ in range(3))
    exact = scaled_dot_product_attention(q.float(), k.float(), v.float(), causal_mask(131))
    for x in (q, k, v):
        x.requires_grad_()
    mixed = causal_attention(q, k, v)
    assert mixed.grad_fn is not None
    assert "Blocked" in str(mixed.grad_fn.next_functions[0][0])
    # three significant digits of bfloat16 on values of size one
    torch.testing.assert_close(mixed.float(), exact, atol=0.03, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 7), st.integers(0, 2**31))
def test_definition_equals_the_fused_kernel(n_queries, extra, seed):
    generator = torch.Generator().manual_seed(seed)
    n_keys = n_queries + extra
    q = torch.randn(3, n_queries, 7, generator=generator)
    k = torch.randn(3, n_keys, 7, generator=generator)
    v = torch.randn(3, n_keys, 5, generator=generator)
    mask = causal_mask(n_queries, n_keys)
    weights = attention_weights(q, k, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, n_queries))
    assert (weights.masked_select(~mask) == 0).all()
    mixed = scaled_dot_product_attention(q, k, v, mask)
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(mixed, fused, atol=1e-5, rtol=1e-5)


def test_scores_are_divided_by_the_root_of_the_width():
    q, k = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[3.0, 0, 0, 0], [0.0, 0, 0, 0]])
    expected = math.exp(3) / (math.exp(3) + 1)  # 2 * 3 / sqrt(4)
    assert attention_weights(q, k)[0, 0].item() == pytest.approx(expected, abs=1e-6)


def test_frequencies():
    torch.testing.assert_close(
        rope_frequencies(8, theta=10_000.0), torch.tensor([1, 0.1, 0.01, 0.001])
    )
    with pytest.raises(ValueError, match="odd"):
        rope_frequencies(7)
