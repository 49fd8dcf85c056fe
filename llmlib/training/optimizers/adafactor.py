"""Adafactor: Adam's second moments kept as a row and a column."""

from math import inf, sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from llmlib.training.optimizers.base import (
    EquationOptimizer,
    OptimizerState,
    Params,
    require_ranges,
)


class Adafactor(EquationOptimizer):
    r"""Estimate each number's average square from its row's and its column's.

    For a matrix, R and C are moving averages of the squared gradient's means over columns and over
    rows, and $\hat V = R C^\top / \mathrm{mean}(R)$. The step is $U = G / \sqrt{\hat V}$, made
    smaller where its root mean square exceeds `clip`, times $\alpha$; vectors keep a plain average.
    The averages forget by $\hat\beta_2 = 1 - t^{-0.8}$, so the first step needs no correction.

    With `lr=None` the step is relative: $\alpha = \max(\epsilon_2, \mathrm{RMS}(W))\, \rho$ with
    $\rho = \min(10^{-2}, 1/\sqrt t)$, so a matrix of large numbers takes large steps.

    State: rows + columns numbers for a matrix of rows x columns, without `beta1`.

    Args:
        lr: $\alpha$ itself, or None for relative steps.
        beta1: Average of the updates, 0 to 1; None, the paper's choice, keeps none.
        eps: Added to squared gradients; least size of the weights for relative steps.
        clip: Largest root mean square of an update.
        decay: The power of t by which the average forgets.

    Raises:
        ValueError: When a setting is out of its range.

    Example:
        >>> weight = torch.ones(2, 3, requires_grad=True)
        >>> weight.grad = torch.tensor([[1.0, 2, 3], [2, 4, 6]])  # of rank one: V is exact
        >>> Adafactor([weight], lr=0.1).step()
        >>> bool((weight - 0.9).abs().max() < 1e-6)
        True

    References:
        Shazeer and Stern (2018), Adafactor: Adaptive Learning Rates with Sublinear Memory Cost,
        algorithms 4 to 6 and section 9.
    """

    def __init__(
        self,
        params: Params,
        lr: float | None = None,
        *,
        beta1: float | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip: float = 1.0,
        decay: float = 0.8,
        weight_decay: float = 0.0,
    ) -> None:
        require_ranges(lr=(lr or 0.0, 0, inf), beta1=(beta1 or 0.0, 0, 1), decay=(decay, 0, inf))
        require_ranges(eps=(min(eps), 0, inf), weight_decay=(weight_decay, 0, inf))
        if not clip > 0:
            raise ValueError(f"clip={clip} must be above 0")
        # A schedule multiplies `lr`; with relative steps it multiplies them.
        settings = {"lr": 1.0 if lr is None else lr, "relative": lr is None, "beta1": beta1}
        settings |= {"eps": eps, "clip": clip, "decay": decay, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @override
    def update(
        self, weight: Tensor, gradient: Tensor, state: OptimizerState, group: dict[str, Any]
    ) -> None:
        step, rate = state["step"], group["lr"]
        if group["relative"]:
            rate *= max(group["eps"][1], _rms(weight)) * min(1e-2, 1 / sqrt(step))
        beta2 = 1 - step ** -group["decay"]
        squares = gradient * gradient + group["eps"][0]
        change = gradient * _inverse_root(squares, state, beta2)
        change /= max(1.0, _rms(change) / group["clip"])
        change *= rate
        if group["beta1"] is not None:
            mean = state.setdefault("mean", torch.zeros_like(weight))
            change = mean.mul_(group["beta1"]).add_((1 - group["beta1"]) * change)
        weight.mul_(1 - rate * group["weight_decay"]).sub_(change)


def _inverse_root(squares: Float[Tensor, "..."], state: OptimizerState, beta2: float) -> Tensor:
    """Update the averages of squares and return one over the root of what they say of each."""
    if squares.ndim < 2:
        average = state.setdefault("square", torch.zeros_like(squares))
        return average.lerp_(squares, 1 - beta2).rsqrt()
    for name, dim in (("rows", -1), ("columns", -2)):
        mean = squares.mean(dim)
        state.setdefault(name, torch.zeros_like(mean)).lerp_(mean, 1 - beta2)
    rows, columns = state["rows"], state["columns"]
    share = rows / rows.mean(-1, keepdim=True)
    return share.rsqrt().unsqueeze(-1) * columns.rsqrt().unsqueeze(-2)


def _rms(x: Tensor) -> float:
    return float(x.norm() / sqrt(x.numel()))
