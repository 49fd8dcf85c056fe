from collections.abc import Callable

import torch
from torch import Tensor


def double_buffered(
    weight: Tensor,
    gradient: Callable[[Tensor, Tensor], Tensor],
    micro_batches: Tensor,
    together: int,
    rate: float,
) -> Tensor:
    """Return the weights after all micro-batches, each gradient one update late."""
    before = now = weight
    for group in micro_batches.split(together):
        mean = torch.stack([gradient(before, one) for one in group]).mean(dim=0)
        before, now = now, now - rate * mean
    return now
