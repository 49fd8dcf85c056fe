from torch import Tensor


def epochs_read(weights: Tensor, sizes: Tensor, budget: float) -> Tensor:
    """Say how often each source is read when a budget of tokens is spent by weights."""
    shares = weights / weights.sum()
    return shares * budget / sizes
