from torch import Tensor


def pareto_keep(scores: Tensor, draws: Tensor, alpha: float) -> Tensor:
    """Say which pages [N] stay, given scores [N] and uniform draws [N]."""
    lomax = (1 - draws) ** (-1 / alpha) - 1
    return lomax > 1 - scores
