import torch
from torch import Tensor


def merge_parts(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    """Merge attention [T, K] to two sets of keys, given the log-sum-exp [T] of each."""
    larger = torch.maximum(first_lse, second_lse)
    shares = torch.exp(first_lse - larger), torch.exp(second_lse - larger)  # [T] each
    total = shares[0] + shares[1]
    return (shares[0] / total)[:, None] * first + (shares[1] / total)[:, None] * second
