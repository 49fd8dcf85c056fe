from torch import Tensor


def pool_heads(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    """Average neighbouring heads of a projection, [H K, D] to [G K, D]."""
    head_dim = weight.shape[0] // n_heads
    heads = weight.view(n_groups, n_heads // n_groups, head_dim, -1)  # [G, H/G, K, D]
    return heads.mean(dim=1).flatten(0, 1)
