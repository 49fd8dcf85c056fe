import torch
from torch import Tensor


def mixture_gates(scores: Tensor, k: int) -> Tensor:
    """Weight the k best of E experts: scores [N, E] become weights [N, E], the others zero."""
    values, indices = scores.topk(k, dim=-1)  # [N, k]
    return torch.zeros_like(scores).scatter(-1, indices, values.softmax(dim=-1))
