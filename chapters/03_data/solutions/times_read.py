import torch
from torch import Tensor


def times_read(parents: Tensor) -> Tensor:
    """Count the leaves at or below each message [N] of trees given by parents, -1 for a root."""
    counts = torch.ones_like(parents)
    counts[parents[parents >= 0]] = 0  # whoever has a reply is no leaf
    for node in reversed(range(len(parents))):
        if parents[node] >= 0:
            counts[parents[node]] += counts[node]
    return counts
