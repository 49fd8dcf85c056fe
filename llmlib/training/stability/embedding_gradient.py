"""The gradient that reaches the embeddings, made smaller on its way back."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, autograd, nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle


def shrink_gradient(x: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    r"""Pass a tensor on as it is, and `share` times its gradient back.

    The paper writes $\alpha x + (1 - \alpha)\,\mathrm{stop}(x)$, the same but for rounding: two
    rounded products need not add up to x.

    Raises:
        ValueError: If the share is not between 0 and 1.

    Example:
        >>> import torch
        >>> x = torch.tensor([3.0], requires_grad=True)
        >>> shrink_gradient(x, 0.1).square().sum().backward()
        >>> x.grad  # a tenth of 2 * 3
        tensor([0.6000])

    References:
        Zeng et al. (2023), GLM-130B, section 3.
    """
    _require_share(share)
    return _Shrink.apply(x, share)  # pyright: ignore[reportReturnType]


def shrink_embedding_gradient(embedding: nn.Module, share: float = 0.1) -> RemovableHandle:
    """Let only a share of the gradient pass through an embedding to its weight.

    Weights and checkpoints stay as they are. Where the weight is the output matrix too, the
    gradient that it has from there keeps its size.

    Args:
        share: GLM-130B's was 0.1.

    Returns:
        A handle; `handle.remove()` takes it back.

    Raises:
        ValueError: If the share is not between 0 and 1.

    Example:
        >>> import torch
        >>> embedding = nn.Embedding(5, 2)
        >>> _ = shrink_embedding_gradient(embedding)
        >>> embedding(torch.tensor([3])).sum().backward()
        >>> embedding.weight.grad[3]
        tensor([0.1000, 0.1000])

    References:
        Zeng et al. (2023), GLM-130B, section 3.
    """
    _require_share(share)

    def after_forward(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return shrink_gradient(output, share)

    return embedding.register_forward_hook(after_forward)


def _require_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} is the part of the gradient that is kept: 0 to 1")


class _Shrink(autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad * ctx.share, None
