"""Rotary position embedding: positions become angles by which queries and keys are turned."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rope_frequencies(head_dim: int, theta: float = 10_000.0) -> Float[Tensor, " half"]:
    r"""Return the angular frequency of each pair of components, radians a position.

    $\omega_i = \theta^{-2i/K}$ for $i = 0 \dots K/2 - 1$

    Args:
        theta: Base: the longest wavelength is about $2\pi\theta$ tokens.

    Raises:
        ValueError: When `head_dim` is odd.

    Example:
        >>> rope_frequencies(4, theta=100.0)
        tensor([1.0000, 0.1000])

    References:
        Su et al. (2021), RoFormer, section 3.2.2 (there indices start at 1).
    """
    if head_dim % 2:
        raise ValueError(f"head_dim={head_dim} is odd: RoPE rotates pairs, make it even")
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    return torch.pow(theta, -exponents).float()


def rope_angles(
    positions: Int[Tensor, "*batch T"], frequencies: Float[Tensor, " half"]
) -> tuple[Float[Tensor, "*batch T half"], Float[Tensor, "*batch T half"]]:
    r"""Return the cosines and the sines of all positions' angles, $\phi_{t,i} = t\,\omega_i$.

    Example:
        >>> cos, sin = rope_angles(torch.tensor([0]), rope_frequencies(2))
        >>> cos.item(), sin.item()
        (1.0, 0.0)

    References:
        Su et al. (2021), RoFormer, equation 34.
    """
    angles = positions.unsqueeze(-1).to(frequencies.dtype) * frequencies
    return angles.cos(), angles.sin()
