from collections.abc import Sequence
from functools import cache


def slowest_stage(seconds: Sequence[float], stages: int) -> float:
    """Return the slowest stage's seconds when layers are cut in the best way."""

    @cache
    def best(start: int, left: int) -> float:
        if left == 1:
            return sum(seconds[start:])
        ends = range(start + 1, len(seconds) - left + 2)  # a layer is left for each later stage
        return min(max(sum(seconds[start:end]), best(end, left - 1)) for end in ends)

    return best(0, stages)
