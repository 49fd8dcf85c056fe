"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

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


class SOAP(EquationOptimizer):
    r"""Turn the gradient so that its rows and columns no longer vary together, then do Adam there.

    $L \leftarrow \beta L + (1 - \beta) G G^\top$ and $R \leftarrow \beta R + (1 - \beta) G^\top G$
    gather which directions vary together; their eigenvectors $Q_L$, $Q_R$ turn the gradient,
    $G' = Q_L^\top G\, Q_R$. Adam's second moment is kept of G', its first moment of G and turned,
    and the step is turned back. Every `every` steps the bases follow L and R by one round of power
    iteration and QR. With bases that stand still it is Adam; with $\beta$'s running out, Shampoo.

    The first step only begins L, R and their bases. Vectors get Adam.

    State: two numbers a parameter, and four square matrices: 2 rows² + 2 columns².

    Args:
        largest: A side longer than this is not turned.

    Raises:
        ValueError: When a setting is out of its range, a parameter has more than two sides, or its
            numbers have 16 bits.

    References:
        Vyas et al. (2024), SOAP: Improving and Stabilizing Shampoo using Adam, algorithms 3 and 4.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 3e-3,
        *,
        betas: tuple[float, float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        every: int = 10,
        largest: int = 10_000,
    ) -> None:
        require_ranges(lr=(lr, 0, inf), beta1=(betas[0], 0, 1), beta2=(betas[1], 0, 1))
        require_ranges(
            eps=(eps, 0, inf), weight_decay=(weight_decay, 0, inf), every=(every, 1, inf)
        )
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings | {"every": every, "largest": largest})
        for group in self.param_groups:
            for weight in group["params"]:
                _require_turnable(weight)

    @override
    def update(
        self, weight: Tensor, gradient: Tensor, state: OptimizerState, group: dict[str, Any]
    ) -> None:
        (beta1, beta2), step = group["betas"], state["step"] - 1
        if step == 0:
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
            _begin(gradient, state, beta2, group["largest"])
            return
        mean, square = state["mean"], state["square"]
        mean.mul_(beta1).add_((1 - beta1) * gradient)
        turned = _turn(gradient, state)
        square.mul_(beta2).add_((1 - beta2) * turned * turned)
        change = _turn_back(_turn(mean, state) / (square.sqrt() + group["eps"]), state)
        rate = group["lr"] * sqrt(1 - beta2**step) / (1 - beta1**step)
        weight.sub_(rate * change).mul_(1 - group["lr"] * group["weight_decay"])
        _gather(gradient, state, beta2)
        if step % group["every"] == 0:
            _follow(state)


def _require_turnable(weight: Tensor) -> None:
    if weight.ndim > 2:
        raise ValueError(f"SOAP turns matrices, not a parameter of shape {tuple(weight.shape)}")
    if weight.dtype not in {torch.float32, torch.float64}:
        raise ValueError(
            f"SOAP's bases need float32 or float64, not parameters in {weight.dtype}: keep those "
            "in float32 and multiply in 16 bits under autocast"
        )


def _begin(gradient: Tensor, state: OptimizerState, beta2: float, largest: int) -> None:
    """Begin the covariances at zero, take in the first gradient, and find the eigenbases."""
    sides = zip(("left", "right"), gradient.shape, strict=True) if gradient.ndim == 2 else ()
    turned = {name: side for name, side in sides if side <= largest}
    for name, side in turned.items():
        state[name] = gradient.new_zeros(side, side)
    _gather(gradient, state, beta2)
    for name in turned:
        state[f"{name}_base"] = torch.linalg.eigh(state[name]).eigenvectors.flip(1)


def _gather(gradient: Tensor, state: OptimizerState, beta2: float) -> None:
    if "left" in state:
        state["left"].lerp_(gradient @ gradient.mT, 1 - beta2)
    if "right" in state:
        state["right"].lerp_(gradient.mT @ gradient, 1 - beta2)


def _turn(x: Float[Tensor, "..."], state: OptimizerState) -> Float[Tensor, "..."]:
    if "left" in state:
        x = state["left_base"].mT @ x
    return x @ state["right_base"] if "right" in state else x


def _turn_back(x: Float[Tensor, "..."], state: OptimizerState) -> Float[Tensor, "..."]:
    if "left" in state:
        x = state["left_base"] @ x
    return x @ state["right_base"].mT if "right" in state else x


def _follow(state: OptimizerState) -> None:
    """Let each basis follow its covariance, largest direction first."""
    for side, name in enumerate(("left", "right")):
        if name not in state:
            continue
        base = state[f"{name}_base"]
        image = state[name] @ base
        order = (base * image).sum(0).argsort(descending=True)
        # The second moments belong to directions: they change places with them.
        state["square"] = state["square"].index_select(side, order)
        state[f"{name}_base"] = torch.linalg.qr(image[:, order]).Q
