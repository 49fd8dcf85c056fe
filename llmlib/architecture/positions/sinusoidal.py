"""Sinusoidal positions: each place a point on circles of many speeds."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture.positions.rope import rope_angles, rope_frequencies


def sinusoidal_positions(
    positions: Int[Tensor, "*batch T"], d_model: int
) -> Float[Tensor, "*batch T D"]:
    r"""Return a vector of sines and cosines for each position, to be added to the embeddings.

    $P_{t,2i} = \sin(t\,\omega_i), \; P_{t,2i+1} = \cos(t\,\omega_i)$ with
    $\omega_i = 10000^{-2i/D}$

    Args:
        positions: Index of each token in its text; a distance between tokens may be negative.

    Raises:
        ValueError: When `d_model` is odd.

    Example:
        >>> sinusoidal_positions(torch.tensor([0, 1]), 4)
        tensor([[0.0000, 1.0000, 0.0000, 1.0000],
                [0.8415, 0.5403, 0.0100, 0.9999]])

    References:
        Vaswani et al. (2017), Attention Is All You Need, section 3.5.
    """
    if d_model % 2:
        raise ValueError(f"d_model={d_model} is odd: sine and cosine come in pairs, make it even")
    cos, sin = rope_angles(positions, rope_frequencies(d_model, device=positions.device))
    return torch.stack((sin, cos), dim=-1).flatten(-2)  # [*batch, T, D]
