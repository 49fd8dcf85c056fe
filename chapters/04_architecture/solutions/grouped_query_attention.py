import torch
from torch import Tensor


def grouped_query_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend causally; queries [B, H, T, K] share keys and values [B, G, T, K]."""
    group = queries.shape[1] // keys.shape[1]
    keys = keys.repeat_interleave(group, dim=1)  # [B, H, T, K]
    values = values.repeat_interleave(group, dim=1)  # [B, H, T, K]
    scores = queries @ keys.mT / queries.shape[-1] ** 0.5  # [B, H, T, T]
    allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1) @ values
