import math


def enough_micro_batches(stages: int, chunks: int, idle: float) -> int:
    """Return the fewest micro-batches whose bubble is at most an idle share."""
    # (P - 1) / (v m + P - 1) <= idle, solved for m; rounding keeps 11.000000000000002 at 11
    least = max(1, math.ceil(round((stages - 1) * (1 - idle) / (idle * chunks), 9)))
    return math.ceil(least / stages) * stages if chunks > 1 else least
