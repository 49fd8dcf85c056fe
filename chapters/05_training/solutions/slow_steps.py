import math


def slow_steps(size, beta2, share):
    """Follow v - 1, which each usual gradient multiplies by beta2."""
    excess = (1 - beta2) * (size**2 - 1)
    allowed = 1 / share**2 - 1
    if excess <= allowed:
        return 0
    return math.ceil(math.log(allowed / excess) / math.log(beta2))
