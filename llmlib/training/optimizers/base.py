"""What the optimizers written from their equations share: one update of one parameter."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
OptimizerState = dict[str, Any]


class EquationOptimizer(torch.optim.Optimizer):
    """An optimizer that says what one step does to one parameter; the loop is here.

    A step is one equation after the other, so that it can be read beside its paper. torch's own
    optimizers do many parameters in one kernel: train with those where they exist.
    """

    @abstractmethod
    def update(
        self, weight: Tensor, gradient: Tensor, state: OptimizerState, group: dict[str, Any]
    ) -> None:
        """Change the weight and the state in place; `group["lr"]` is the step's learning rate.

        `state["step"]` counts from 1. On the first step nothing else is in the state.
        """

    @override
    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Update every parameter that has a gradient.

        Args:
            closure: Computes loss and gradients anew; its loss is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    state = self.state[weight]
                    state["step"] = state.get("step", 0) + 1
                    self.update(weight, weight.grad, state, group)
        return loss


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of the tensors that an optimizer keeps beside weights and gradients.

    Example:
        >>> weight = torch.zeros(3, requires_grad=True)
        >>> weight.grad = torch.ones(3)
        >>> sgd = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> sgd.step()
        >>> state_bytes(sgd)
        12
    """
    held = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.nbytes for value in held if isinstance(value, Tensor) and value.ndim)


def require_ranges(**values: tuple[float, float, float]) -> None:
    """Refuse settings that lie out of their range: name=(value, low, high), high left out.

    Raises:
        ValueError: When a value is not a number in its range.
    """
    for name, (value, low, high) in values.items():
        if not low <= value < high:
            raise ValueError(f"{name}={value} must be at least {low} and below {high}")
