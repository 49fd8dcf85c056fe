"""A loss that leaves its band: told from the noise by the median of the steps before it."""

import math
import statistics
from collections import deque
from typing import Any

_TO_DEVIATION = 1.4826  # of a normal distribution, over its median absolute deviation


class SpikeDetector:
    r"""Says which step's loss is too far above those before it.

    With the median m of the last losses and their median absolute deviation
    $d = \mathrm{med}\,|\ell_i - m|$, a loss is a spike if $\ell - m$ is above both
    $k \cdot 1.4826\, d$ and `least`; so is one that is no number. A median does not move until half
    the window has: one outlier cannot hide the next. A spike itself never enters the window.

    While the loss falls fast the window is wide and the detector lenient, and it stays silent until
    half the window is filled.

    Args:
        window: Losses that are looked back on.
        threshold: Deviations k above the median.
        least: Smallest rise, in nats, that is ever called a spike.

    Raises:
        ValueError: If a setting is out of its range.

    Example:
        >>> detector = SpikeDetector(window=8)
        >>> for loss in (3.2, 3.0, 3.1, 2.9, 3.0):
        ...     assert detector.sign(loss) is None
        >>> detector.sign(4.5)
        'loss 4.500 is 1.500 above the median 3.000 of the last 5 steps, allowed were 0.890'

    References:
        Leys et al. (2013), Detecting Outliers (the median absolute deviation instead of the
        standard deviation).
    """

    def __init__(self, window: int = 32, threshold: float = 6.0, least: float = 0.1) -> None:
        if not (window >= 4 and threshold > 0 and least > 0):
            raise ValueError(
                f"window={window} must be at least 4, threshold={threshold} and least={least} "
                "above zero"
            )
        self.window, self.threshold, self.least = window, threshold, least
        self._losses: deque[float] = deque(maxlen=window)

    def sign(self, loss: float, grad_norm: float = 0.0) -> str | None:
        """Take in a step; return why it is a spike, in words, or None.

        Args:
            loss: Nats a target.
            grad_norm: Norm of the gradient before clipping; a spike if it is no number.
        """
        for name, value in {"loss": loss, "gradient norm": grad_norm}.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        allowed = self.allowed_rise()
        if allowed < math.inf:
            median = statistics.median(self._losses)
            if loss - median > allowed:
                return (
                    f"loss {loss:.3f} is {loss - median:.3f} above the median {median:.3f} of the "
                    f"last {len(self._losses)} steps, allowed were {allowed:.3f}"
                )
        self._losses.append(loss)
        return None

    def allowed_rise(self) -> float:
        """Return how far above the median the next loss may be, in nats; infinite at first."""
        if 2 * len(self._losses) < self.window:
            return math.inf
        median = statistics.median(self._losses)
        deviation = statistics.median(abs(loss - median) for loss in self._losses)
        return max(self.threshold * _TO_DEVIATION * deviation, self.least)

    def state_dict(self) -> dict[str, Any]:
        """Return the window as JSON values."""
        return {"losses": list(self._losses)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go on from such a window."""
        self._losses = deque(state["losses"], maxlen=self.window)
