import torch
from torch import Tensor


def rotate_by_position(x: Tensor, theta: float) -> Tensor:
    """Apply RoPE to one head's vectors [T, K], the first token at position 0."""
    n_tokens, head_dim = x.shape
    frequencies = theta ** (-torch.arange(0, head_dim, 2) / head_dim)  # [K / 2]
    angles = torch.arange(n_tokens)[:, None] * frequencies  # [T, K / 2]
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
