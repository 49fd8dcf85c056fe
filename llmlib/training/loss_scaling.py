"""Loss scaling: lift float16's gradients out of the numbers that it has not."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from llmlib.training.distributed import total_norm, whole

_LARGEST = torch.finfo(torch.float32).max
"""A factor beyond would make every loss infinite."""


@dataclass(kw_only=True)
class LossScaler:
    r"""Multiply the loss by a factor S that follows what the gradients can bear.

    $\nabla(S\,L) = S\,\nabla L$: a gradient that float16 would flush to zero is computed S times as
    large, and divided by S again in float32, before anybody clips or reads it. After
    `growth_interval` updates without overflow S doubles; an update whose gradient overflowed is
    skipped, and S halved. S is a power of two if it began as one, so no digit is lost.

    Raises:
        ValueError: When a setting is out of its range.

    Example:
        >>> scaler, w = LossScaler(factor=1024.0), torch.ones(1, requires_grad=True)
        >>> scaler.scale((3 * w).sum()).backward()
        >>> w.grad
        tensor([3072.])
        >>> scaler.unscale([w.grad]), w.grad
        (tensor(True), tensor([3.]))
        >>> scaler.update(all_finite=False)
        >>> scaler.factor
        512.0

    References:
        Micikevicius et al. (2018), Mixed Precision Training, section 3.2; the numbers are those of
        `torch.amp.GradScaler`.
    """

    factor: float = 2.0**16
    """S, what the loss is multiplied by; 65,536 is already above float16's largest number, so a
    loss in float16 is brought to float32 first."""
    growth: float = 2.0
    """What S is multiplied by after `growth_interval` good updates."""
    backoff: float = 0.5
    """What S is multiplied by after an overflow."""
    growth_interval: int = 2000
    """Updates in a row without overflow before S grows."""
    smallest: float = 2.0**-13
    """S may not fall below: at such a factor it is the loss that diverges."""
    good_steps: int = 0
    """Updates without overflow since S last changed."""

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= self.factor <= _LARGEST:
            raise ValueError(
                f"factor={self.factor} must be finite in float32 and at least "
                f"smallest={self.smallest} > 0"
            )
        if not self.growth > 1 or not 0 < self.backoff < 1:
            raise ValueError(
                f"growth={self.growth} must be above 1, backoff={self.backoff} between 0 and 1"
            )
        if not (self.growth_interval >= 1 and self.good_steps >= 0):
            raise ValueError(
                f"growth_interval={self.growth_interval} must be at least 1, "
                f"good_steps={self.good_steps} not negative"
            )

    def scale(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the loss times S in float32, to call `backward` on.

        Example:
            >>> LossScaler().scale(torch.tensor(3.0, dtype=torch.float16))
            tensor(196608.)
        """
        return loss.float() * self.factor

    @torch.no_grad()
    def unscale(self, gradients: Iterable[Tensor]) -> Bool[Tensor, ""]:
        """Divide gradients by S in place and tell whether all of them are finite.

        Call it once an update, after the last backward pass and before clipping. Several processes
        must agree on the answer before one of them skips the update. The processor does not wait
        for the accelerator here.

        Example:
            >>> LossScaler(factor=2.0).unscale([torch.ones(2), torch.tensor([torch.inf])])
            tensor(False)
        """
        gradients = [gradient for gradient in gradients if gradient.numel()]
        if not gradients:
            return torch.tensor(True)
        for gradient in gradients:
            gradient.mul_(1 / self.factor)
        # The largest magnitude is not finite where any number is not; it copies nothing.
        return whole(total_norm(gradients, norm_type=math.inf)).isfinite()

    def update(self, all_finite: bool) -> None:
        """Change S after an update that was done (`all_finite`) or skipped.

        Raises:
            FloatingPointError: When S falls below `smallest`.

        Example:
            >>> scaler = LossScaler(factor=4.0, growth_interval=2)
            >>> for all_finite in (True, True, False):
            ...     scaler.update(all_finite=all_finite)
            ...     print(scaler.factor, scaler.good_steps)
            4.0 1
            8.0 0
            4.0 0
        """
        if not all_finite:
            self.factor, self.good_steps = self.factor * self.backoff, 0
            if self.factor < self.smallest:
                raise FloatingPointError(
                    f"the gradient overflows even at a loss scale of {self.factor:g}: it is the "
                    "loss that diverges; lower lr, lengthen the warm-up or look at the data"
                )
            return
        self.good_steps += 1
        if self.good_steps < self.growth_interval:
            return
        self.good_steps = 0
        if self.factor * self.growth <= _LARGEST:
            self.factor *= self.growth

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs, as JSON values."""
        return {"factor": self.factor, "good_steps": self.good_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another scaler stood.

        Raises:
            ValueError: When the state is not that of a loss scaler.

        Example:
            >>> scaler = LossScaler()
            >>> scaler.load_state_dict({"factor": 32.0, "good_steps": 7})
            >>> scaler.factor
            32.0
        """
        if set(state) != {"factor", "good_steps"}:
            raise ValueError(
                f"the state of a loss scaler holds factor and good_steps, not {sorted(state)}: "
                "was the run trained in float16?"
            )
        self.factor, self.good_steps = float(state["factor"]), int(state["good_steps"])
        self.__post_init__()
