"""Our attention equals PyTorch's: the definition, the blocks, the layer, and their gradients."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture import (
    Attention,
    ModelConfig,
    causal_mask,
    scaled_dot_product_attention,
)
from llmlib.architecture.attention.blocked import blocked_causal_attention

B, H, T, S, K = 2, 3, 11, 17, 5  # distinct primes


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def outputs_and_gradients(output: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)  # no symmetry to hide in
    return [output, *torch.autograd.grad((output * weights).sum(), inputs)]


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def some_mask() -> Tensor:
    mask = torch.rand(B, 1, T, S) < 0.5
    mask[..., 0] = True  # every query needs a key
    return mask


MASKS = {"no mask": None, "any mask": some_mask, "causal, more keys": lambda: causal_mask(T, S)}


@pytest.mark.covers("arch.attn-full")
@pytest.mark.parametrize("kind", MASKS)
def test_the_definition_equals_the_fused_kernel(kind: str) -> None:
    inputs = leaves((B, H, T, K), (B, H, S, K), (B, H, S, K))
    queries, keys, values = inputs
    make = MASKS[kind]
    mask = None if make is None else make()
    ours = scaled_dot_product_attention(queries, keys, values, mask)
    theirs = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    assert_equal(outputs_and_gradients(ours, inputs), outputs_and_gradients(theirs, inputs))


@pytest.mark.covers("arch.attn-full")
@pytest.mark.parametrize("block", [4, 128])
def test_the_blocks_equal_the_fused_kernel(block: int) -> None:
    inputs = leaves((B, H, T, K), (B, H, T, K), (B, H, T, K))
    queries, keys, values = inputs
    ours = blocked_causal_attention(queries, keys, values, block)
    theirs = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    assert_equal(outputs_and_gradients(ours, inputs), outputs_and_gradients(theirs, inputs))


@pytest.mark.covers("arch.attn-full")
def test_the_layer_equals_torchs_multi_head_attention() -> None:
    width = H * K
    config = ModelConfig(
        vocab_size=2, d_model=width, n_layers=1, n_heads=H, max_seq_len=T, position="none"
    )
    ours, theirs = Attention(config), nn.MultiheadAttention(width, H, bias=False, batch_first=True)
    assert isinstance(theirs.in_proj_weight, Tensor)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.out_proj.weight.copy_(ours.out.weight)
    x = torch.randn(B, T, width, requires_grad=True)
    hidden = ~causal_mask(T)  # theirs is True where attention is not allowed
    output, _ = theirs(x, x, x, attn_mask=hidden, need_weights=False)
    assert_equal(
        outputs_and_gradients(ours(x), [x, ours.qkv.weight, ours.out.weight]),
        outputs_and_gradients(output, [x, theirs.in_proj_weight, theirs.out_proj.weight]),
    )
