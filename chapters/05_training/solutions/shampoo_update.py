import torch
from torch import Tensor


def shampoo_update(gradient: Tensor, left: Tensor, right: Tensor, eps: float) -> Tensor:
    """Return the gradient between the covariances' powers of -1/4."""

    def to_the_minus_quarter(matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        return vectors * (values + eps) ** -0.25 @ vectors.mT

    return to_the_minus_quarter(left) @ gradient @ to_the_minus_quarter(right)
