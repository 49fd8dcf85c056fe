"""Stochastic gradient descent, with momentum."""

from math import inf
from typing import Any

from torch import Tensor
from typing_extensions import override

from llmlib.training.optimizers.base import (
    EquationOptimizer,
    OptimizerState,
    Params,
    require_ranges,
)


class SGD(EquationOptimizer):
    r"""Go downhill, and keep rolling.

    $m \leftarrow \mu m + g$, $w \leftarrow w - \eta m$; with Nesterov's look ahead
    $w \leftarrow w - \eta (g + \mu m)$. The first step takes $m = g$. Weight decay adds $\lambda w$
    to the gradient, so it is the gradient of $\frac{\lambda}{2} \lVert w \rVert^2$.

    State: none without momentum, else one number a parameter.

    Raises:
        ValueError: When a setting is out of its range.

    Example:
        >>> import torch
        >>> weight = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = SGD([weight], lr=0.1, momentum=0.5)
        >>> for _ in range(2):  # steps of 0.1 and 0.15
        ...     weight.grad = torch.ones(1)
        ...     optimizer.step()
        >>> weight.item()
        0.75

    References:
        Sutskever et al. (2013), On the importance of initialization and momentum in deep learning,
        equations 1 to 4, where the learning rate stands inside the momentum.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        require_ranges(
            lr=(lr, 0, inf), momentum=(momentum, 0, 1), weight_decay=(weight_decay, 0, inf)
        )
        if nesterov and not momentum:
            raise ValueError("nesterov looks ahead along the momentum: give momentum above 0")
        settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        super().__init__(params, settings | {"weight_decay": weight_decay})

    @override
    def update(
        self, weight: Tensor, gradient: Tensor, state: OptimizerState, group: dict[str, Any]
    ) -> None:
        momentum = group["momentum"]
        if group["weight_decay"]:
            gradient = gradient + group["weight_decay"] * weight
        direction = gradient
        if momentum:
            if "velocity" not in state:  # the first step, or the first since momentum is above 0
                state["velocity"] = gradient.clone()
            else:
                state["velocity"].mul_(momentum).add_(gradient)
            velocity = state["velocity"]
            direction = gradient + momentum * velocity if group["nesterov"] else velocity
        weight.sub_(group["lr"] * direction)
