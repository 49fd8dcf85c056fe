import math


def uneven_share(layers: int, stages: int) -> float:
    """Return the share of all stages' time that the ones with fewer layers wait."""
    fullest = math.ceil(layers / stages)  # sets the pace of all
    return 1 - layers / (stages * fullest)
