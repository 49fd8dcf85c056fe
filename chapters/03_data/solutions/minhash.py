from torch import Tensor


def minhash(elements: Tensor, factors: Tensor, shifts: Tensor) -> Tensor:
    """Sign a set [N] by its minimum under each of K functions (a x + b) mod 2^31: [K]."""
    hashed = (factors[:, None] * elements + shifts[:, None]) % 2**31  # [K, N]
    return hashed.amin(dim=1)
