"""One product for many matrices: each group of rows with its own."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def grouped_linear(
    rows: Float[Tensor, "A Din"], weights: Float[Tensor, "E Dout Din"], counts: Int[Tensor, " E"]
) -> Float[Tensor, "A Dout"]:
    """Multiply each group of rows with its own matrix.

    $y_a = W_{e(a)} x_a$, where the first `counts[0]` rows belong to matrix 0, and so on.

    Example:
        >>> weights = torch.tensor([[[2.0]], [[5.0]]])
        >>> grouped_linear(torch.ones(3, 1), weights, torch.tensor([1, 2])).flatten().tolist()
        [2.0, 5.0, 5.0]

    References:
        Gale et al. (2022), MegaBlocks, section 4 (the products of groups of unequal size).
    """
    if torch.is_autocast_enabled(rows.device.type):  # what autocast does for F.linear
        dtype = torch.get_autocast_dtype(rows.device.type)
        rows, weights = rows.to(dtype), weights.to(dtype)
    if torch.compiler.is_compiling() or rows.is_cuda:
        if _fits_kernel(rows, weights):
            return F.grouped_mm(rows, weights.mT, offs=counts.cumsum(0).int())
        pairs = zip(rows.split(counts.tolist()), weights, strict=True)
        return torch.cat([x @ weight.T for x, weight in pairs])
    return _GroupedLinear.apply(rows, weights, counts.tolist())  # pyright: ignore[reportReturnType]


def _fits_kernel(rows: Tensor, weights: Tensor) -> bool:
    """Whether torch has one kernel for all groups: bfloat16, every row a multiple of 16 bytes."""
    is_aligned = rows.shape[1] % 8 == 0 == weights.shape[1] % 8
    return hasattr(F, "grouped_mm") and rows.dtype == torch.bfloat16 and is_aligned


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, counts: list[int]) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.counts = counts
        result = rows.new_empty(rows.shape[0], weights.shape[1])
        for weight, x, y in _groups(weights, counts, rows, result):
            if len(x):  # a single token leaves most experts without work
                torch.mm(x, weight.T, out=y)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, weights = ctx.saved_tensors
        grad_rows, grad_weights = torch.empty_like(rows), torch.empty_like(weights)
        for weight, x, y in _groups(weights, ctx.counts, grad_rows, grad):
            if len(x):
                torch.mm(y, weight, out=x)
        for weight, x, y in _groups(grad_weights, ctx.counts, rows, grad):
            torch.mm(y.T, x, out=weight)  # zeros for an expert without tokens
        return grad_rows, grad_weights, None


def _groups(
    weights: Tensor, counts: list[int], *rows: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    return zip(weights, *(part.split(counts) for part in rows), strict=True)


class Stacked(nn.Module):
    """E matrices on top of each other in one parameter, [E Dout, Din]; each draws on its own."""

    def __init__(self, n_experts: int, d_out: int, d_in: int) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.weight = nn.Parameter(torch.empty(n_experts * d_out, d_in))

    @property
    def matrices(self) -> Float[Tensor, "E Dout Din"]:
        """The matrices, a view."""
        return self.weight.view(self.n_experts, -1, self.weight.shape[1])
