"""Muon: momentum whose update to each matrix is made orthogonal."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from llmlib.training.optimizers.base import require_ranges
from llmlib.training.optimizers.polar_express import Quintic

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of the quintic: the steepest slope at 0 that keeps singular values near 1 (Jordan)."""

Scale = Literal["spectral", "rms"]


def _each(coefficients: Quintic | Sequence[Quintic], steps: int) -> list[Quintic]:
    """Return one set of coefficients a step."""
    if isinstance(coefficients[0], float | int):
        return [cast("Quintic", coefficients)] * steps
    return list(cast("Sequence[Quintic]", coefficients))


def orthogonalize(
    matrices: Float[Tensor, "*batch rows columns"],
    steps: int = 5,
    *,
    coefficients: Quintic | Sequence[Quintic] = COEFFICIENTS,
    dtype: torch.dtype | None = None,
    eps: float = 1e-7,
) -> Float[Tensor, "*batch rows columns"]:
    r"""Push every singular value towards 1 while keeping the singular vectors.

    With $X_0 = G / \lVert G \rVert_F$ each step is
    $X \leftarrow aX + b(XX^\top)X + c(XX^\top)^2X$. An odd polynomial in X acts on the singular
    values alone: $U S V^\top \mapsto U p(S) V^\top$, so five steps approximate the polar factor
    $UV^\top$ with matrix products only. The coefficients trade exactness for speed: singular
    values end between about 0.7 and 1.2 instead of at 1.

    Args:
        steps: Times that one set of coefficients is applied.
        coefficients: Of every step, or one set a step, as `polar_express` gives them.
        dtype: Number format of the products; default: that of the matrices. Before float16, which
            holds neither very small nor very large gradients, they are divided by their norm.
        eps: Smallest norm divided by, so that a zero matrix stays zero.

    Example:
        >>> nearly = orthogonalize(torch.diag(torch.tensor([3.0, 1.0])))
        >>> bool(((nearly.diagonal() - 1).abs() < 0.35).all())
        True

    References:
        Jordan et al. (2024), Muon: An optimizer for hidden layers in neural networks.
        Björck and Bowie (1971), An Iterative Algorithm for Computing the Best Estimate of an
        Orthogonal Matrix.
    """
    rows, columns = matrices.shape[-2:]
    if not matrices.numel():
        return matrices.clone()
    x = matrices.reshape(-1, rows, columns)  # [batch, rows, columns]
    if rows > columns:  # X X^T is then the smaller of the two Gram matrices
        x = x.mT
    form = dtype or matrices.dtype
    if form != torch.float16:
        x = x.to(form)
    x = (x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(eps)).to(form)
    for a, b, c in _each(coefficients, steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    if rows > columns:
        x = x.mT
    return x.reshape(matrices.shape)


class Muon(torch.optim.Optimizer):
    r"""Momentum, orthogonalized: for matrices inside the network.

    $M \leftarrow \mu M + (1 - \mu) G$, $O = \mathrm{orthogonalize}(\mu M + (1 - \mu) G)$,
    $W \leftarrow (1 - \eta\lambda) W - \eta\, s\, O$, with the momentum $\mu$, learning rate $\eta$
    and weight decay $\lambda$. All directions of the update get the same length, so rare
    directions learn as fast as common ones. The scale s is
    $\sqrt{\max(1, \text{rows}/\text{columns})}$ (`spectral`) or
    $0.2\sqrt{\max(\text{rows}, \text{columns})}$ (`rms`: entries as large as AdamW's usually are,
    so that AdamW's learning rate and weight decay carry over).

    Embeddings, the output matrix, biases and norms want AdamW: see `muon_with_adamw`.

    Args:
        params: Matrices, or stacks of matrices [E rows columns], or parameter groups of them.
        nesterov: Look one momentum step ahead, as above; else orthogonalize M itself.
        dtype: Number format of the Newton-Schulz products; default: the parameter's.
        rows: Where a parameter is several matrices on top of each other (queries, keys and values
            in one product), the rows of each: they are orthogonalized apart.

    Example:
        >>> weight = torch.nn.Parameter(torch.eye(2))
        >>> weight.grad = torch.tensor([[0.0, 5.0], [-5.0, 0.0]])
        >>> Muon([weight], lr=0.1).step()
        >>> bool(weight[0, 1] < -0.06) and bool(weight[1, 0] > 0.06)
        True

    References:
        Jordan et al. (2024), Muon; Liu et al. (2025), Muon is Scalable for LLM Training,
        section 2.2 (weight decay and the `rms` scale).
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        scale: Scale = "spectral",
        nesterov: bool = True,
        steps: int = 5,
        coefficients: Quintic | Sequence[Quintic] = COEFFICIENTS,
        dtype: torch.dtype | None = None,
        rows: Sequence[int] | None = None,
    ) -> None:
        require_ranges(
            lr=(lr, 0, math.inf), weight_decay=(weight_decay, 0, math.inf),
            momentum=(momentum, 0, 1), steps=(steps, 1, math.inf),
        )  # fmt: skip
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "scale": scale,
            "nesterov": nesterov,
            "steps": steps,
            "coefficients": coefficients,
            "dtype": dtype,
            "rows": list(rows) if rows else None,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            if group["scale"] not in get_args(Scale):
                raise ValueError(f"scale={group['scale']!r} is unknown: one of {get_args(Scale)}")
            for param in group["params"]:
                if param.ndim not in {2, 3}:
                    raise ValueError(
                        f"Muon updates matrices, not a parameter of shape {tuple(param.shape)}: "
                        "give that one to AdamW (muon_with_adamw does)"
                    )
                if group["rows"] and sum(group["rows"]) != param.shape[-2]:
                    raise ValueError(
                        f"rows={group['rows']} do not add up to the {param.shape[-2]} rows of a "
                        f"parameter of shape {tuple(param.shape)}"
                    )

    @torch.no_grad()
    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            updates = [self._momentum(param, group) for param in params]
            # One batched product for all matrices of a shape: nearly five times as fast for
            # 32 x 32 on a processor, no slower to speak of for large ones.
            by_shape: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for param, update in zip(params, updates, strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"])
                for piece in zip(_split(param, group), _split(update, group), strict=True):
                    by_shape[piece[0].shape].append(piece)
            for shape, pieces in by_shape.items():
                stack = torch.stack([update for _, update in pieces])
                stack = orthogonalize(
                    stack,
                    group["steps"],
                    coefficients=group["coefficients"],
                    dtype=group["dtype"],
                )
                length = group["lr"] * update_scale(shape, group["scale"])
                for (target, _), update in zip(pieces, stack, strict=True):
                    target.add_(update.to(target.dtype), alpha=-length)
        return loss

    def _momentum(self, param: Tensor, group: dict[str, Any]) -> Tensor:
        """Update the running mean of the gradients and return what is to be orthogonalized."""
        assert param.grad is not None
        state = self.state[param]
        if not state:
            state["momentum"] = torch.zeros_like(param)
        state["momentum"].lerp_(param.grad, 1 - group["momentum"])
        if not group["nesterov"]:
            return state["momentum"]
        return param.grad.lerp(state["momentum"], group["momentum"])


def _split(tensor: Tensor, group: dict[str, Any]) -> tuple[Tensor, ...]:
    """Return views of the matrices that lie on top of each other in one parameter."""
    return tensor.split(group["rows"], dim=-2) if group["rows"] else (tensor,)


def update_scale(shape: tuple[int, ...], scale: Scale) -> float:
    """Return the factor s of `Muon` that makes updates of different shapes comparable.

    Example:
        >>> update_scale((400, 100), "spectral"), update_scale((400, 100), "rms")
        (2.0, 4.0)
    """
    rows, columns = shape[-2:]
    if scale == "spectral":
        return math.sqrt(max(1.0, rows / max(columns, 1)))
    return 0.2 * math.sqrt(max(rows, columns))
