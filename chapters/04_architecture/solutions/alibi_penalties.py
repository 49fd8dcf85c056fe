import torch
from torch import Tensor


def alibi_penalties(n_heads: int, n_tokens: int) -> Tensor:
    """Give what ALiBi adds to the scores, [H, T, T]; H is a power of two."""
    slopes = 2.0 ** (-8 * torch.arange(1, n_heads + 1) / n_heads)
    t = torch.arange(n_tokens)
    distances = (t[:, None] - t).clamp_min(0)  # [T, T]: query minus key
    return -slopes[:, None, None] * distances
