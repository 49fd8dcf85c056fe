from torch import Tensor


def induction_score(maps: Tensor, n: int) -> Tensor:
    """Average the weight on what followed the first occurrence: [B, H, 2n, 2n] to [H]."""
    after = maps.diagonal(-(n - 1), dim1=-2, dim2=-1)  # [B, H, n + 1]: queries n - 1 to 2n - 1
    return after[..., 1:].mean(dim=(0, 2))
