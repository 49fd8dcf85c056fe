"""Batches that grow during a run."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

Growth = Literal["linear", "steps"]


@dataclass(frozen=True, kw_only=True)
class BatchRamp:
    r"""A batch that grows with the tokens learned from, $b(n)$ through given points $(n_i, b_i)$.

    Between two points it holds the first one's size (`steps`), or follows the line, rounded down:
    $b(n) = b_i + \lfloor (b_{i+1} - b_i)\,(n - n_i) / (n_{i+1} - n_i) \rfloor$ (`linear`). After
    the last point it stays. Tokens decide and not steps, so that a run which was cut and goes on
    finds its place by what it has learned from.

    Raises:
        ValueError: When the points are not in order or no whole numbers, or a batch would be
            empty.

    Example:
        >>> ramp = BatchRamp(points=((0, 1), (1000, 5)))
        >>> [ramp.micro_batches(tokens) for tokens in (0, 249, 250, 999, 1000, 9999)]
        [1, 1, 2, 4, 5, 5]
        >>> doubling = BatchRamp(points=((0, 1), (1000, 2), (3000, 4)), growth="steps")
        >>> [doubling.micro_batches(tokens) for tokens in (0, 999, 1000, 2999, 3000)]
        [1, 1, 2, 2, 4]

    References:
        Brown et al. (2020), Language Models are Few-Shot Learners, appendix B (linear); Chowdhery
        et al. (2022), PaLM, section 5 (steps).
    """

    points: tuple[tuple[int, int], ...]
    """Pairs of tokens learned from before, and the micro-batches of an update from there on."""
    growth: Growth = "linear"
    """`linear` or `steps`."""

    def __post_init__(self) -> None:
        if self.growth not in get_args(Growth):
            raise ValueError(f"growth={self.growth!r} is unknown: one of {get_args(Growth)}")
        if not all(isinstance(number, int) for point in self.points for number in point):
            raise ValueError(
                f"points={self.points}: tokens and micro-batches are counted, so give whole "
                "numbers, 12 * 10**9 and not 12e9"
            )
        places = [tokens for tokens, _ in self.points]
        if places[:1] != [0] or any(a >= b for a, b in pairwise(places)):
            raise ValueError(
                f"points={self.points}: the first point stands at 0 tokens, each other one later "
                "than the one before it"
            )
        if any(size < 1 for _, size in self.points):
            raise ValueError(f"points={self.points}: an update needs one micro-batch or more")

    def micro_batches(self, tokens: int) -> int:
        """Return how many micro-batches of a process the next update takes.

        Args:
            tokens: Target tokens learned from so far, over all processes.

        Raises:
            ValueError: When it is less than none.
        """
        if tokens < 0:
            raise ValueError(f"tokens={tokens} must be 0 or more")
        i = bisect_right(self.points, tokens, key=lambda point: point[0]) - 1
        start, size = self.points[i]
        if self.growth == "steps" or i == len(self.points) - 1:
            return size
        end, next_size = self.points[i + 1]
        return size + (next_size - size) * (tokens - start) // (end - start)
