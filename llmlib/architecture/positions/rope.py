"""Rotary position embedding: positions become angles by which queries and keys are turned."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture.exact import float64_device, wide


def rope_frequencies(
    head_dim: int,
    theta: float | Float[Tensor, "*rows 1"] = 10_000.0,
    device: torch.device | None = None,
) -> Float[Tensor, "*rows half"]:
    r"""Return the angular frequency of each pair of components, radians a position.

    $\omega_i = \theta^{-2i/K}$ for $i = 0 \dots K/2 - 1$, in float32 whatever the default type is

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
    home = float64_device(device)
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float64, device=home) / head_dim
    return torch.pow(theta, -exponents).float().to(device)


def rope_angles(
    positions: Int[Tensor, "*batch T"], frequencies: Float[Tensor, "*#rows half"]
) -> tuple[Float[Tensor, "*batch T half"], Float[Tensor, "*batch T half"]]:
    r"""Return the cosines and the sines of all positions' angles, $\phi_{t,i} = t\,\omega_i$.

    In float32 at least: bfloat16 has no whole number between 256 and 258.

    Args:
        frequencies: The same for all tokens, or an axis more for each one that they differ along.

    Example:
        >>> cos, sin = rope_angles(torch.tensor([0]), rope_frequencies(2))
        >>> cos.item(), sin.item()
        (1.0, 0.0)

    References:
        Su et al. (2021), RoFormer, equation 34.
    """
    frequencies = wide(frequencies)
    angles = positions.unsqueeze(-1).to(frequencies.dtype) * frequencies
    return angles.cos(), angles.sin()
