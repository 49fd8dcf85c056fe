"""Gradients scaled down before the update: to a fixed norm, or to what is usual for this run."""

import math
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llmlib.training.distributed import by_mesh, total_norm, whole


class Clipping(Protocol):
    """Scales a step's gradients in place; what it remembers of earlier steps is JSON."""

    def __call__(self, parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
        """Return the norm of all gradients together, before clipping; it may be sharded."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the memory as JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from a memory."""
        ...


class NormClipping:
    r"""Scale all gradients by one factor where their common norm is above a limit.

    $g \leftarrow g \cdot \min(1, c / \lVert g \rVert)$: the step's direction stays.

    Args:
        limit: Largest allowed norm; 0 never clips.

    Raises:
        ValueError: If the limit is no number from 0 up.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> NormClipping(1.0)([weight]), weight.grad
        (tensor(5.), tensor([0.6000, 0.8000]))

    References:
        Pascanu et al. (2013), On the Difficulty of Training Recurrent Neural Networks, algorithm 1.
    """

    def __init__(self, limit: float = 1.0) -> None:
        if not limit >= 0:
            raise ValueError(f"limit={limit} must be 0 (never clip) or more")
        self.limit = limit

    def __call__(self, parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
        """Clip; return the norm before."""
        held = [parameter for parameter in parameters if parameter.grad is not None]
        norm = total_norm(p.grad for p in held if p.grad is not None)
        _scale(held, self.limit or math.inf, norm)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: every step stands for itself."""
        return {}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Accept the empty memory."""


class ZScoreClipping:
    r"""ZClip: clip a gradient whose norm is unusual for this run, and the more the more unusual.

    The norm's running mean and variance give each step a score, $z = (n - \mu) / \sigma$. Up to
    the threshold $\zeta$ nothing happens. Above, the norm becomes

    $$n^* = \mu + \frac{\zeta^2}{z}\,\sigma,$$

    which is $\mu + \zeta\sigma$ at the threshold and falls towards the mean behind it. Then
    $\mu \leftarrow \alpha\mu + (1 - \alpha) n^*$ and
    $\sigma^2 \leftarrow \alpha\sigma^2 + (1 - \alpha)(n^* - \mu)^2$ with the new mean; what was
    clipped counts as clipped, so a spike does not raise its own bar. The first steps set mean and
    variance and are not clipped.

    Args:
        threshold: Score above which a norm is clipped.
        decay: Share $\alpha$ of mean and variance that a step leaves.
        warm_up: Steps that mean and variance start from.

    Raises:
        ValueError: If a setting is out of its range.

    Example:
        >>> clipping = ZScoreClipping()
        >>> clipping.load_state_dict({"first": [], "mean": 1.0, "variance": 0.04})
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([0.0, 2.0])  # a score of 5: to 1 + 6.25 / 5 * 0.2
        >>> clipping([weight]), weight.grad
        (tensor(2.), tensor([0.0000, 1.2500]))

    References:
        Kumar et al. (2025), ZClip: Adaptive Spike Mitigation for LLM Pre-Training, algorithm 1; the
        authors' code also clips every norm at 1, which is left out here.
    """

    def __init__(self, threshold: float = 2.5, decay: float = 0.97, warm_up: int = 25) -> None:
        if not (threshold > 0 and 0 <= decay < 1 and warm_up >= 2):
            raise ValueError(
                f"threshold={threshold} must be above 0, decay={decay} from 0 up and below 1, and "
                f"warm_up={warm_up} at least the 2 steps that a variance needs"
            )
        self.threshold, self.decay, self.warm_up = threshold, decay, warm_up
        self._first: list[Tensor] = []
        # Tensors, not numbers: a number would make the processor wait for the accelerator.
        self._mean: Tensor | None = None
        self._variance: Tensor | None = None

    def __call__(self, parameters: Iterable[Tensor]) -> Float[Tensor, ""]:
        """Clip; return the norm before."""
        held = [parameter for parameter in parameters if parameter.grad is not None]
        norm = whole(total_norm(p.grad for p in held if p.grad is not None)).float()
        if self._mean is None or self._variance is None:
            self._first.append(norm)
            if len(self._first) == self.warm_up:
                self._start()
            return norm
        self._mean, self._variance = self._mean.to(norm.device), self._variance.to(norm.device)
        limit = self.limit(norm)
        _scale(held, limit, norm)
        mean = torch.lerp(limit, self._mean, self.decay)
        variance = torch.lerp((limit - mean).square(), self._variance, self.decay)
        # A norm that is no number would stay in the averages for ever.
        counts = norm.isfinite()
        self._mean = mean.where(counts, self._mean)
        self._variance = variance.where(counts, self._variance)
        return norm

    def limit(self, norm: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return the norm that one is clipped to, itself where it is usual or nothing is known."""
        if self._mean is None or self._variance is None:
            return norm
        deviation = self._variance.sqrt()
        score = (norm - self._mean) / (deviation + 1e-6)
        return (self._mean + self.threshold**2 / score * deviation).where(
            score > self.threshold, norm
        )

    def state_dict(self) -> dict[str, Any]:
        """Return mean, variance and, before they are there, the norms of the first steps."""
        return {
            "first": [norm.item() for norm in self._first if norm.isfinite()],
            "mean": None if self._mean is None else self._mean.item(),
            "variance": None if self._variance is None else self._variance.item(),
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from such a memory."""
        self._first = [torch.tensor(norm) for norm in state["first"]]
        self._mean, self._variance = (
            None if state[name] is None else torch.tensor(state[name])
            for name in ("mean", "variance")
        )

    def _start(self) -> None:
        device = self._first[-1].device
        norms = torch.stack([norm.to(device) for norm in self._first])
        norms = norms[norms.isfinite()]
        self._first = list(norms)
        if len(norms) == self.warm_up:
            self._mean, self._variance, self._first = norms.mean(), norms.var(correction=0), []


def _scale(parameters: list[Tensor], limit: float | Tensor, norm: Tensor) -> None:
    """Scale gradients of a known common norm down to a limit."""
    for group in by_mesh(parameters):
        nn.utils.clip_grads_with_norm_(group, limit, norm)  # pyright: ignore[reportArgumentType]
