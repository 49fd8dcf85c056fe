import math


def worth_of_repeats(unique: float, read: float) -> float:
    """Return how many fresh tokens would teach as much."""
    repeats = max(0.0, read / unique - 1)
    return min(unique, read) + unique * 15.4 * (1 - math.exp(-repeats / 15.4))
