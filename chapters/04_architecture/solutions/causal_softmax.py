import torch
from torch import Tensor


def causal_softmax(scores: Tensor) -> Tensor:
    """Turn scores [*batch, T, T] into weights that leave out the future."""
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)
