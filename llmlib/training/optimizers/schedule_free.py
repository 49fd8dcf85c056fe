"""Schedule-free AdamW: averaging in place of a learning rate that falls."""

from collections.abc import Callable
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


class ScheduleFreeAdamW(EquationOptimizer):
    r"""Step at one point, average at another, and take the gradient between the two.

    $y = (1 - \beta_1) z + \beta_1 x$ is where the gradient is taken, z makes AdamW's steps without
    momentum, $z \leftarrow z - \eta (g / (\sqrt{\hat v} + \epsilon) + \lambda y)$, and
    $x \leftarrow (1 - c) x + c z$ averages them, with $c = \eta_t^2 / \sum_{i \le t} \eta_i^2$. A
    falling rate would average late iterates too; here no end has to be known beforehand.

    While training the parameters hold y; `average` puts x in their place, to evaluate and to save,
    and `resume` takes y back.

    State: z and v, two numbers a parameter.

    Args:
        warmup: Steps in which the rate rises; the only schedule that is left.

    Raises:
        ValueError: When a setting is out of its range.

    References:
        Defazio et al. (2024), The Road Less Scheduled, algorithm 1 and section 4.3.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 2.5e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup: int = 0,
    ) -> None:
        require_ranges(lr=(lr, 0, inf), beta2=(betas[1], 0, 1), eps=(eps, 0, inf))
        require_ranges(weight_decay=(weight_decay, 0, inf), warmup=(warmup, 0, inf))
        if not 0 < betas[0] < 1:
            raise ValueError(f"beta1={betas[0]} must lie between 0 and 1: y stands between x and z")
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        # In the groups, so that a saved state says which of the two points the parameters hold.
        super().__init__(params, settings | {"warmup": warmup, "averaged": False})

    @property
    def averaged(self) -> bool:
        """Whether the parameters hold the average x."""
        return any(group["averaged"] for group in self.param_groups)

    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        if self.averaged:
            raise RuntimeError("the parameters hold the average: call resume() before a step")
        return super().step(closure)

    @override
    def update(
        self, weight: Tensor, gradient: Tensor, state: OptimizerState, group: dict[str, Any]
    ) -> None:
        (beta1, beta2), step = group["betas"], state["step"]
        rate = group["lr"] * min(1.0, step / max(group["warmup"], 1))
        if step == 1:
            state["z"], state["square"] = weight.clone(), torch.zeros_like(weight)
        state["top"] = max(rate, state.get("top", 0.0))
        state["total"] = state.get("total", 0.0) + state["top"] ** 2
        share = state["top"] ** 2 / state["total"] if state["total"] else 0.0
        z, square = state["z"], state["square"]
        square.mul_(beta2).add_((1 - beta2) * gradient * gradient)
        change = gradient / (square.sqrt() / sqrt(1 - beta2**step) + group["eps"])
        change += group["weight_decay"] * weight
        # y of the new x and z, without x: y' = (1 - c) y + c z - rate (1 - beta1 (1 - c)) change
        weight.lerp_(z, share).sub_(rate * (1 - beta1 * (1 - share)) * change)
        z.sub_(rate * change)

    @torch.no_grad()
    def average(self) -> None:
        """Put the average x into the parameters."""
        self._move(lambda beta1: 1 - 1 / beta1, averaged=True)

    @torch.no_grad()
    def resume(self) -> None:
        """Put y back, where training goes on."""
        self._move(lambda beta1: 1 - beta1, averaged=False)

    def _move(self, share: Any, *, averaged: bool) -> None:
        for group in self.param_groups:
            if group["averaged"] == averaged:
                continue
            for weight in group["params"]:
                if "z" in self.state[weight]:
                    weight.lerp_(self.state[weight]["z"], share(group["betas"][0]))
            group["averaged"] = averaged
