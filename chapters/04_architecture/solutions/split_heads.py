from torch import Tensor


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Cut each token's vector into heads: [B, T, D] becomes [B, H, T, K]."""
    n_texts, n_tokens, _ = x.shape
    heads = x.view(n_texts, n_tokens, n_heads, -1)  # [B, T, H, K]: each token's vector, cut
    return heads.transpose(1, 2)  # [B, H, T, K]
