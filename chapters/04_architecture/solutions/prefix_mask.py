import torch
from torch import Tensor


def prefix_mask(n_tokens: int, prefix_length: int) -> Tensor:
    """Say which key (column) each query (row) of a prefix decoder may see."""
    places = torch.arange(n_tokens)
    causal = places <= places[:, None]  # [T, S]: the key is not later than the query
    return causal | (places < prefix_length)  # and every token sees the whole prefix
