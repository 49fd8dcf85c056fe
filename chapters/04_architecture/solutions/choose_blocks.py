import torch
from torch import Tensor


def choose_blocks(query: Tensor, keys: Tensor, block: int, n_blocks: int) -> Tensor:
    """Return the places of the tokens in the best blocks, in the order of the text."""
    means = keys.unflatten(0, (-1, block)).mean(dim=1)  # [blocks, K]
    best = (means @ query).topk(n_blocks).indices.sort().values
    return (best[:, None] * block + torch.arange(block)).flatten()
