"""Causal attention in blocks of queries, with its gradient written out."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 128
LONGEST = 1024  # above it the weights kept for the backward pass would outgrow the fused kernel's


def causal_attention(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G T K"],
    values: Float[Tensor, "B G T K"],
    dropout: float = 0.0,
) -> Float[Tensor, "B H T K"]:
    """Attend causally by the faster of two exact ways.

    PyTorch's fused kernel is the choice nearly always. Its backward pass in bfloat16 on processors
    takes 2.5 times as long as the blocks of this module (8 heads of 32, 256 tokens), so training
    in bfloat16 on a processor takes the blocks.

    There are as many key heads as query heads, or fewer that each serve a group of them.
    """
    blocks_win = (
        queries.device.type == "cpu"
        and queries.dtype == torch.bfloat16
        and queries.requires_grad
        and dropout == 0
        and queries.shape[2] <= LONGEST
        and not torch.compiler.is_compiling()
    )
    if blocks_win:
        return blocked_causal_attention(queries, keys, values)
    return F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        dropout_p=dropout,
        is_causal=queries.shape[2] > 1,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )


def blocked_causal_attention(
    queries: Float[Tensor, "B H T K"],
    keys: Float[Tensor, "B G T K"],
    values: Float[Tensor, "B G T K"],
    block: int = BLOCK,
) -> Float[Tensor, "B H T K"]:
    r"""Attend causally, one block of queries after another.

    A block of queries meets only the keys up to its own end, so about half of the products with
    masked keys are never made.

    Returns:
        $\mathrm{softmax}(Q K^\top / \sqrt{K} + M)\,V$ with the causal mask M.

    Example:
        >>> values = torch.tensor([[[[1.0], [3.0]]]])
        >>> blocked_causal_attention(torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 2, 1), values)
        tensor([[[[1.],
                  [2.]]]])

    References:
        Vaswani et al. (2017), Attention Is All You Need, equation 1.
    """
    group = queries.shape[1] // keys.shape[1]
    if group > 1:
        keys = keys.repeat_interleave(group, dim=1)  # [B, H, T, K]
        values = values.repeat_interleave(group, dim=1)
    flat = (tensor.flatten(0, 1) for tensor in (queries, keys, values))  # [B H, T, K]
    mixed: Tensor = _BlockedAttention.apply(*flat, block)  # pyright: ignore[reportAssignmentType]
    return mixed.unflatten(0, queries.shape[:2])


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, block: int) -> Tensor:
        queries = queries * (1 / math.sqrt(queries.shape[-1]))
        keys, values = keys.contiguous(), values.contiguous()
        out = torch.empty_like(queries, memory_format=torch.contiguous_format)
        later = torch.full((block, block), -torch.inf, dtype=queries.dtype).triu_(1)
        all_weights = []
        for start, end in _blocks(queries.shape[1], block):
            scores = torch.bmm(queries[:, start:end], keys[:, :end].transpose(1, 2))
            scores[:, :, start:] += later[: end - start, : end - start]
            weights = scores.softmax(dim=-1)  # summed in float32 inside the kernel
            torch.bmm(weights, values[:, :end], out=out[:, start:end])
            all_weights.append(weights)
        ctx.save_for_backward(queries, keys, values, *all_weights)
        ctx.block = block
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        queries, keys, values, *all_weights = ctx.saved_tensors
        grad = grad.contiguous()
        grad_queries = torch.empty_like(queries)
        grad_keys, grad_values = torch.zeros_like(keys), torch.zeros_like(values)
        blocks = _blocks(queries.shape[1], ctx.block)
        for (start, end), weights in zip(blocks, all_weights, strict=True):
            grad_out = grad[:, start:end]
            grad_values[:, :end].baddbmm_(weights.transpose(1, 2), grad_out)
            grad_weights = torch.bmm(grad_out, values[:, :end].transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(
                grad_weights, weights, -1, weights.dtype
            )
            torch.bmm(grad_scores, keys[:, :end], out=grad_queries[:, start:end])
            grad_keys[:, :end].baddbmm_(grad_scores.transpose(1, 2), queries[:, start:end])
        return grad_queries.mul_(1 / math.sqrt(queries.shape[-1])), grad_keys, grad_values, None


def _blocks(n_tokens: int, block: int) -> list[tuple[int, int]]:
    return [(start, min(start + block, n_tokens)) for start in range(0, n_tokens, block)]
