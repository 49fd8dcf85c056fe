"""Three element-wise pieces of the decoder with their gradients written out.

PyTorch's automatic differentiation runs one pass over memory for every small operation. On a
processor those passes, not the matrix products, decide the speed of a small model. Each function
here does the same arithmetic in fewer passes and keeps fewer tensors for the backward pass.
`torch.compile` fuses the plain forms by itself, so inside it those are used.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def rms_norm(
    x: Float[Tensor, "*rows D"], weight: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*rows D"]:
    r"""Scale each row to a root mean square of one, then by a learned weight.

    $y_i = w_i \, x_i / \sqrt{\tfrac1D \sum_j x_j^2 + \epsilon}$

    Example:
        >>> rms_norm(torch.tensor([[3.0, 4.0]]), torch.ones(2), 0.0).pow(2).mean().item()
        1.0

    References:
        Zhang and Sennrich (2019), Root Mean Square Layer Normalization, equation 4.
    """
    if torch.compiler.is_compiling() or x.is_cuda:
        return F.rms_norm(x, weight.shape, weight, eps)
    if not torch.is_grad_enabled():  # a decoded token feels the cost of `apply`
        return _normalized(x, weight, eps)[0]
    return _RMSNorm.apply(x, weight, eps)  # pyright: ignore[reportReturnType]


def _normalized(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Return the normalized rows and the factor of each."""
    # The sum of squares of bfloat16 rows is taken in float32, as the norm's definition asks.
    exact = torch.promote_types(x.dtype, torch.float32)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
    scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
    return (x * scale).to(x.dtype).mul_(weight.to(x.dtype)), scale


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        normalized, scale = _normalized(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return normalized

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, scale = ctx.saved_tensors
        normed = x * scale
        rows = tuple(range(x.dim() - 1))
        grad = grad.to(scale.dtype)
        grad_weight = (grad * normed).sum(rows)
        grad = grad * weight.to(grad.dtype)
        along = torch.linalg.vecdot(grad, normed).unsqueeze(-1).div_(x.shape[-1])
        grad_x = torch.addcmul(grad, normed, along, value=-1).mul_(scale)
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), None


def swiglu(gate_up: Float[Tensor, "*rows F2"]) -> Float[Tensor, "*rows F"]:
    r"""Multiply the second half of each row by the Swish of the first.

    $y = \mathrm{swish}(g) \odot u$ of the row $(g, u)$, with $\mathrm{swish}(g) = g \, \sigma(g)$.

    Example:
        >>> swiglu(torch.tensor([[0.0, 7.0]])).item()
        0.0

    References:
        Shazeer (2020), GLU Variants Improve Transformer, equation 6.
    """
    if torch.compiler.is_compiling() or gate_up.is_cuda or not torch.is_grad_enabled():
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up
    return _SwiGLU.apply(gate_up)  # pyright: ignore[reportReturnType]


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        both = torch.empty_like(gate_up)  # written in halves: no concatenation afterwards
        grad_gate, grad_up = both.chunk(2, dim=-1)
        torch.mul(grad, F.silu(gate), out=grad_up)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
        return both


def rotate(
    x: Float[Tensor, "B T heads K"],
    cos: Float[Tensor, "#B T half"],
    sin: Float[Tensor, "#B T half"],
) -> Float[Tensor, "B T heads K"]:
    r"""Turn each pair $(x_i, x_{i+K/2})$ of every head by its position's angle.

    $(a, b) \mapsto (a\cos\phi - b\sin\phi,\; b\cos\phi + a\sin\phi)$, `half = K / 2` pairs a head

    Example:
        >>> quarter = torch.tensor([[[0.0]]]), torch.tensor([[[1.0]]])
        >>> rotate(torch.tensor([[[[1.0, 0.0]]]]), *quarter).flatten().tolist()
        [0.0, 1.0]

    References:
        Su et al. (2021), RoFormer, equation 34; the pairing of the two halves is GPT-NeoX's and
        LLaMA's (transformers), a permutation of the paper's neighbouring pairs.
    """
    if torch.compiler.is_compiling() or x.is_cuda or not torch.is_grad_enabled():
        return _rotated(x, cos, sin)
    return _Rotate.apply(x, cos, sin)  # pyright: ignore[reportReturnType]


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, *, inverse: bool = False) -> Tensor:
    cos, sin = cos.unsqueeze(2).to(x.dtype), sin.unsqueeze(2).to(x.dtype)  # a head axis
    if inverse:
        sin = -sin
    first, second = x.chunk(2, dim=-1)
    return torch.cat(
        (
            (first * cos).addcmul_(second, sin, value=-1),
            (second * cos).addcmul_(first, sin),
        ),
        dim=-1,
    )


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        cos, sin = ctx.saved_tensors  # a rotation's transpose is the rotation back
        return _rotated(grad, cos, sin, inverse=True), None, None
