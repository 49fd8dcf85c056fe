import torch
from torch import Tensor


def cross_attention(queries: Tensor, keys: Tensor, values: Tensor, lengths: Tensor) -> Tensor:
    """Attend from [B, T, K] to [B, S, K]; row b's keys from lengths[b] on are padding."""
    scores = queries @ keys.mT / queries.shape[-1] ** 0.5  # [B, T, S]
    is_text = torch.arange(keys.shape[1]) < lengths[:, None]  # [B, S]
    weights = scores.masked_fill(~is_text[:, None], -torch.inf).softmax(dim=-1)
    return weights @ values
