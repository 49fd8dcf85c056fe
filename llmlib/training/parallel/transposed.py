"""Sending as a step of a model: what a linear map moves forward, its transpose moves back."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, autograd
from torch.autograd.function import once_differentiable


def transposed(
    x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]
) -> Tensor:
    r"""Apply a linear map over the processes, of which autograd knows nothing but its transpose.

    Of $y = A x$ the gradient is $A^\top \nabla y$. The two maps that parallel training needs most
    are each other's transposes: a copy to every process and the sum over them, a gather and the
    scattered sum, an exchange and the exchange the other way.

    Args:
        there: A.
        back: Its transpose, applied to the gradient.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> transposed(x, lambda x: 3 * x, lambda grad: 3 * grad).sum().backward()
        >>> x.grad
        tensor([3., 3.])

    References:
        Shoeybi et al. (2019), Megatron-LM, section 3 (there f and g).
    """
    return cast("Tensor", _Transposed.apply(x, there, back))


class _Transposed(autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.back = back
        return there(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.back(grad), None, None
