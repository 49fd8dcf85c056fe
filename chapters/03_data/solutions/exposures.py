import math

from torch import Tensor


def exposures(losses: Tensor, others: Tensor) -> Tensor:
    """Return the exposure of secrets with losses [S], each among its own others [S, N]."""
    rank = 1 + (others <= losses[:, None]).sum(dim=1)  # [S]
    return math.log2(others.shape[1] + 1) - rank.double().log2()
