"""Adam from its equations, with both kinds of weight decay; training uses torch's fused AdamW."""

from math import inf, sqrt
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from llmlib.training.optimizers.base import (
    EquationOptimizer,
    OptimizerState,
    Params,
    require_ranges,
)


class Adam(EquationOptimizer):
    r"""Divide each number's average gradient by its average size.

    $m \leftarrow \beta_1 m + (1 - \beta_1) g$, $v \leftarrow \beta_2 v + (1 - \beta_2) g^2$,
    $w \leftarrow w - \eta\, \hat m / (\sqrt{\hat v} + \epsilon)$, where
    $\hat m = m / (1 - \beta_1^t)$ and $\hat v = v / (1 - \beta_2^t)$ undo that m and v start at
    zero. Multiplying all gradients by a number changes nothing but through $\epsilon$.

    Weight decay is added to the gradient, $g + \lambda w$, and divided like it: numbers with large
    gradients are decayed less. `AdamW` decays all alike.

    State: two numbers a parameter.

    Raises:
        ValueError: When a setting is out of its range.

    Example:
        >>> weight = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> weight.grad = torch.tensor([0.001, 1000.0])
        >>> Adam([weight], lr=0.1).step()
        >>> [round(x, 4) for x in weight.tolist()]
        [0.9, 0.9]

    References:
        Kingma and Ba (2015), Adam: A Method for Stochastic Optimization, algorithm 1.
    """

    decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        require_ranges(lr=(lr, 0, inf), beta1=(betas[0], 0, 1), beta2=(betas[1], 0, 1))
        require_ranges(eps=(eps, 0, inf), weight_decay=(weight_decay, 0, inf))
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @override
    def update(
        self, weight: Tensor, gradient: Tensor, state: OptimizerState, group: dict[str, Any]
    ) -> None:
        (beta1, beta2), step, rate = group["betas"], state["step"], group["lr"]
        if self.decoupled:
            weight.mul_(1 - rate * group["weight_decay"])
        elif group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * weight
        if step == 1:
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        mean, square = state["mean"], state["square"]
        mean.mul_(beta1).add_((1 - beta1) * gradient)
        square.mul_(beta2).add_((1 - beta2) * gradient * gradient)
        size = square.sqrt() / sqrt(1 - beta2**step) + group["eps"]
        weight.sub_(rate / (1 - beta1**step) * mean / size)


class AdamW(Adam):
    r"""Adam whose weight decay passes by the division.

    First $w \leftarrow (1 - \eta\lambda) w$, then Adam's step on the plain gradient. So every
    weight shrinks by the same share, and learning rate and decay can be chosen apart.

    References:
        Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization, algorithm 2; there
        the decay has its own factor, here as in torch it is multiplied by the learning rate.
    """

    decoupled = True
