r"""The roofline: no operation is faster than its arithmetic, nor than its traffic, allows.

$$\text{FLOP/s} \le \min(\text{peak},\; I \cdot \text{bandwidth}), \qquad
I = \frac{\text{FLOPs}}{\text{bytes moved}}$$

The two limits meet at the ridge, $I = \text{peak} / \text{bandwidth}$: left of it an operation
waits for memory, right of it for the arithmetic units.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch

from llmlib.core.hardware.bandwidth import stream_rate
from llmlib.core.hardware.machine import matmul_rate

Side = Literal["memory", "compute"]


@dataclass(frozen=True)
class Work:
    """What an operation does, whatever the machine.

    Example:
        >>> total = Work(flops=6, bytes=24) + Work(flops=2, bytes=8)
        >>> total.intensity
        0.25
    """

    flops: int = 0
    """Multiplications, additions and other operations on single numbers."""
    bytes: int = 0
    """Bytes read from memory and written to it."""

    def __post_init__(self) -> None:
        if self.flops < 0 or self.bytes < 0:
            raise ValueError(f"work cannot be negative: {self}")

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: int) -> Work:
        return Work(self.flops * times, self.bytes * times)

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved; infinite where nothing is moved."""
        return self.flops / self.bytes if self.bytes else float("inf")


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """A machine's two limits.

    Raises:
        ValueError: When a limit is not positive.

    Example:
        >>> machine = Roofline(peak_flops=312e12, bandwidth=1.56e12)  # of an A100's data sheet
        >>> machine.ridge
        200.0
        >>> machine.side(Work(flops=1, bytes=12))
        'memory'

    References:
        Williams, Waterman and Patterson (2009), Roofline, section 3.
    """

    peak_flops: float
    """FLOP/s of the best matrix product."""
    bandwidth: float
    """Bytes a second of the best stream from memory."""

    def __post_init__(self) -> None:
        if not (self.peak_flops > 0 and self.bandwidth > 0):
            raise ValueError(f"both limits must be positive: {self}")

    @property
    def ridge(self) -> float:
        """The intensity, in FLOPs a byte, from which on the peak can be reached."""
        return self.peak_flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """Return the highest FLOP/s of operations that do so many FLOPs for each byte."""
        return min(self.peak_flops, intensity * self.bandwidth)

    def side(self, work: Work) -> Side:
        """Tell which limit an operation meets first."""
        return "memory" if work.intensity < self.ridge else "compute"

    def seconds(self, work: Work) -> float:
        r"""Return the least time of an operation.

        $\max(\text{FLOPs} / \text{peak},\; \text{bytes} / \text{bandwidth})$
        """
        return max(work.flops / self.peak_flops, work.bytes / self.bandwidth)


def measure_roofline(
    dtype: torch.dtype = torch.float32,
    *,
    size: int = 1024,
    array_bytes: int | None = None,
    seconds: int | float = 2.0,
    rounds: int = 5,
    device: str = "cpu",
) -> Roofline:
    """Measure the two limits of this machine, the best of several rounds of each in turn.

    On a processor a second is one of processor time, so the limits are those of one core, and
    seconds in which other programs had it do not count. What is left of a neighbour's influence
    only slows a round down: the best one is nearest to the limit.

    Args:
        size: Rows and columns of the matrices that are multiplied.
        array_bytes: Of each array that streams; default: larger than the last cache.
        seconds: For all rounds together, warm-ups not counted.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> roofline = measure_roofline(size=64, array_bytes=2**16, seconds=0.02, rounds=2)
        >>> roofline.ridge > 0
        True
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds} must be at least 1")
    share = seconds / (2 * rounds)
    clock = time.process_time if torch.device(device).type == "cpu" else time.perf_counter
    pairs = [
        (
            matmul_rate(dtype, size=size, seconds=share, device=device, clock=clock),
            stream_rate(array_bytes=array_bytes, seconds=share, device=device, clock=clock),
        )
        for _ in range(rounds)
    ]
    peaks, bandwidths = zip(*pairs, strict=True)
    return Roofline(peak_flops=max(peaks), bandwidth=max(bandwidths))
