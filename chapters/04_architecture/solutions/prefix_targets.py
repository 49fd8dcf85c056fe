import torch
from torch import Tensor


def prefix_targets(tokens: Tensor, prefix_lengths: Tensor) -> Tensor:
    """Return the targets of texts [B, T + 1]: [B, T], with -100 where the token is given."""
    targets = tokens[:, 1:]  # the target at place t is token t + 1
    places = torch.arange(1, tokens.shape[1])
    return targets.masked_fill(places < prefix_lengths[:, None], -100)
