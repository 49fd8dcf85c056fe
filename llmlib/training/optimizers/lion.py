"""Lion: steps of one size, in the direction of the sign."""

from math import inf
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


class Lion(EquationOptimizer):
    r"""Take the sign of a mix of momentum and gradient: every number moves by the learning rate.

    $w \leftarrow (1 - \eta\lambda) w - \eta\, \mathrm{sign}(\beta_1 m + (1 - \beta_1) g)$, then
    $m \leftarrow \beta_2 m + (1 - \beta_2) g$. All steps being as large as Adam's largest, the
    learning rate is three to ten times smaller than Adam's and the decay as much larger. Found by
    a search over programs.

    State: one number a parameter, half of Adam's.

    Raises:
        ValueError: When a setting is out of its range.

    Example:
        >>> weight = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> weight.grad = torch.tensor([0.001, -1000.0])
        >>> Lion([weight], lr=0.1).step()
        >>> weight.tolist()
        [0.8999999761581421, 1.100000023841858]

    References:
        Chen et al. (2023), Symbolic Discovery of Optimization Algorithms, algorithm 2.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        require_ranges(lr=(lr, 0, inf), beta1=(betas[0], 0, 1), beta2=(betas[1], 0, 1))
        require_ranges(weight_decay=(weight_decay, 0, inf))
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @override
    def update(
        self, weight: Tensor, gradient: Tensor, state: OptimizerState, group: dict[str, Any]
    ) -> None:
        (beta1, beta2), rate = group["betas"], group["lr"]
        if state["step"] == 1:
            state["mean"] = torch.zeros_like(weight)
        mean = state["mean"]
        direction = (beta1 * mean + (1 - beta1) * gradient).sign()
        weight.mul_(1 - rate * group["weight_decay"]).sub_(rate * direction)
        mean.mul_(beta2).add_((1 - beta2) * gradient)
