from torch import Tensor


def unpair_heads(rows: Tensor, n_heads: int) -> Tensor:
    """Order the rows of each head 0 2 4 ... 1 3 5 ..., as RoPE in halves needs them."""
    pairs = rows.view(n_heads, -1, 2, rows.shape[1])  # [H, K/2, 2, D]
    return pairs.transpose(1, 2).reshape(rows.shape)
