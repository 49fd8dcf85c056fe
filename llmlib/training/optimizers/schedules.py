"""Learning-rate schedules: pure functions from the step to a factor of the peak rate."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["constant", "linear", "cosine", "inverse_sqrt", "wsd", "polynomial"]
DecayShape = Literal["linear", "cosine", "sqrt"]


def warm_up(step: int, warmup: int) -> float:
    """Rise linearly from 0 at step 0 to 1 at step `warmup`, then stay.

    Example:
        >>> [warm_up(step, 4) for step in (0, 1, 4, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """
    return min(1.0, step / warmup) if warmup else 1.0


def _progress(step: int, start: int, total: int) -> float:
    """Return how much of the stretch from `start` to `total` is behind, in [0, 1]."""
    return min(1.0, max(0.0, (step - start) / max(1, total - start)))


def linear(step: int, *, total: int, warmup: int = 0, final: float = 0.0) -> float:
    """Warm up, then fall on a straight line to `final` at step `total`.

    Example:
        >>> [linear(step, total=10, warmup=2) for step in (1, 2, 6, 10)]
        [0.5, 1.0, 0.5, 0.0]
    """
    return polynomial(step, total=total, warmup=warmup, final=final, power=1.0)


def polynomial(
    step: int, *, total: int, warmup: int = 0, final: float = 0.0, power: float = 1.0
) -> float:
    """Warm up, then fall as $f + (1 - f)(1 - p)^k$, p the share of the decay that is behind.

    The power k is 1 for a line; 2 falls steeply at first.

    Example:
        >>> polynomial(5, total=10, power=2.0)
        0.25
    """
    if step < warmup:
        return warm_up(step, warmup)
    return final + (1 - final) * (1 - _progress(step, warmup, total)) ** power


def cosine(step: int, *, total: int, warmup: int = 0, final: float = 0.0) -> float:
    r"""Warm up, then fall along half a cosine: $f + (1 - f)\tfrac12(1 + \cos \pi p)$.

    The final factor f is usually 0.1 for large models.

    Example:
        >>> round(cosine(5, total=10, final=0.1), 3)
        0.55

    References:
        Loshchilov and Hutter (2017), SGDR, equation 5, without restarts.
    """
    if step < warmup:
        return warm_up(step, warmup)
    shape = 0.5 * (1 + math.cos(math.pi * _progress(step, warmup, total)))
    return final + (1 - final) * shape


def inverse_sqrt(step: int, *, warmup: int) -> float:
    r"""Warm up, then fall as $\sqrt{w / s}$: no end of the run has to be known.

    Example:
        >>> inverse_sqrt(400, warmup=100)
        0.5

    References:
        Vaswani et al. (2017), Attention Is All You Need, equation 3, divided by its peak.
    """
    return warm_up(step, warmup) if step < warmup else math.sqrt(warmup / step)


def warmup_stable_decay(
    step: int,
    *,
    total: int,
    warmup: int = 0,
    decay: int,
    final: float = 0.0,
    shape: DecayShape = "linear",
) -> float:
    r"""Warm up, stay at the peak, and fall to `final` in the last `decay` steps.

    A checkpoint from the stable stretch can be decayed at any time, so one run gives models for
    many budgets. With p the share of the decay that is behind, the shapes are $1 - p$ (linear),
    $\tfrac12(1 + \cos \pi p)$ (cosine) and $1 - \sqrt p$ (sqrt).

    Example:
        >>> [warmup_stable_decay(step, total=10, warmup=2, decay=4) for step in (1, 5, 8, 10)]
        [0.5, 1.0, 0.5, 0.0]

    References:
        Hu et al. (2024), MiniCPM, section 4; Hägele et al. (2024), Scaling Laws and
        Compute-Optimal Training Beyond Fixed Training Durations, section 3 (the sqrt shape).
    """
    if step < warmup:
        return warm_up(step, warmup)
    behind = _progress(step, total - decay, total)
    if shape == "linear":
        left = 1 - behind
    elif shape == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * behind))
    else:
        left = 1 - math.sqrt(behind)
    return final + (1 - final) * left


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A schedule as data: which function, and its settings.

    Example:
        >>> schedule = Schedule(kind="wsd", warmup=10, decay=20)
        >>> schedule.factor(5, total=100), schedule.factor(90, total=100)
        (0.5, 0.5)
    """

    kind: Kind = "cosine"
    """`constant`, `linear`, `cosine`, `inverse_sqrt`, `wsd` or `polynomial`."""
    warmup: int = 0
    """Steps of the linear rise."""
    final: float = 0.0
    """Factor at the last step, 0 to 1 (linear, cosine, wsd, polynomial)."""
    decay: int = 0
    """Steps of the fall (wsd)."""
    shape: DecayShape = "linear"
    """Form of the fall (wsd)."""
    power: float = 1.0
    """Exponent (polynomial)."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"schedule kind={self.kind!r} is unknown: one of {get_args(Kind)}")
        if self.shape not in get_args(DecayShape):
            raise ValueError(f"shape={self.shape!r} is unknown: one of {get_args(DecayShape)}")
        if not (self.warmup >= 0 and self.decay >= 0):
            raise ValueError("warmup and decay count steps: make them 0 or more")
        if not 0 <= self.final <= 1:
            raise ValueError(f"final={self.final} is a factor of the peak rate: 0 to 1")
        if not 0 < self.power < math.inf:
            raise ValueError(f"power={self.power} must be above zero, and finite")
        if self.kind == "inverse_sqrt" and not self.warmup:
            raise ValueError("inverse_sqrt is scaled by its warm-up: set warmup to 1 or more")
        if self.kind == "wsd" and not self.decay:
            raise ValueError("wsd needs decay, the number of steps of its fall")

    def check(self, total: int) -> None:
        """Check that the phases fit a run.

        Raises:
            ValueError: When warm-up and decay together are longer than the run.
        """
        falling = self.decay if self.kind == "wsd" else 0
        if self.warmup + falling > total:
            raise ValueError(
                f"warmup={self.warmup} and decay={falling} do not fit into {total} steps: "
                "shorten them or train longer"
            )

    def factor(self, step: int, total: int) -> float:
        """Return the factor of the peak rate at a step; the trainer's first update asks for 1.

        A run of one step is all peak: a fall that ends where it starts would leave no update.
        """
        if total == 1:
            return 1.0
        common = {"total": total, "warmup": self.warmup, "final": self.final}
        match self.kind:
            case "constant":
                return warm_up(step, self.warmup)
            case "linear":
                return linear(step, **common)
            case "cosine":
                return cosine(step, **common)
            case "inverse_sqrt":
                return inverse_sqrt(step, warmup=self.warmup)
            case "wsd":
                return warmup_stable_decay(step, **common, decay=self.decay, shape=self.shape)
            case "polynomial":
                return polynomial(step, **common, power=self.power)
