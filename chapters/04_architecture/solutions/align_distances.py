import torch
from torch import Tensor


def align_distances(by_distance: Tensor) -> Tensor:
    """Move [*batch, T, T] from column = distance to column = key; later keys get 0."""
    t = torch.arange(by_distance.shape[-1])
    columns = (t[:, None] - t).clamp_min(0).expand_as(by_distance)
    return by_distance.gather(-1, columns).tril()
