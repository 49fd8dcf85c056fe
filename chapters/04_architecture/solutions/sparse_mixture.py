import torch
from torch import Tensor


def sparse_mixture(x: Tensor, experts: Tensor, gates: Tensor, matrices: Tensor) -> Tensor:
    """Mix linear experts [E, D, D]: tokens [N, D] with their choices and gates, both [N, k]."""
    y = torch.zeros_like(x)
    for expert, matrix in enumerate(matrices):
        tokens, choice = (experts == expert).nonzero(as_tuple=True)  # whose, and which choice
        y.index_add_(0, tokens, gates[tokens, choice, None] * (x[tokens] @ matrix.T))
    return y
