"""ALiBi: a key is the less seen the farther it lies behind."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture.exact import float64_device


def alibi_slopes(n_heads: int, device: torch.device | None = None) -> Float[Tensor, " H"]:
    r"""Return how steeply each head's scores fall with the distance.

    $m_h = 2^{-8h/H}$ for $h = 1 \dots H$ when $H$ is a power of two. Otherwise the slopes of the
    next lower power of two, then every other one of its double until there are enough.

    Raises:
        ValueError: When there is no head.

    Example:
        >>> alibi_slopes(4)
        tensor([0.2500, 0.0625, 0.0156, 0.0039])
        >>> alibi_slopes(3)
        tensor([0.0625, 0.0039, 0.2500])

    References:
        Press et al. (2022), Train Short, Test Long, section 3; the rule for other numbers of
        heads stands in its code.
    """
    if n_heads < 1:
        raise ValueError(f"n_heads={n_heads}: ALiBi needs at least one head")
    power = 2 ** (n_heads.bit_length() - 1)  # largest power of two that is not above H
    home = float64_device(device)
    heads = torch.arange(1, 2 * power + 1, dtype=torch.float64, device=home)
    exponents = 8 * torch.cat((heads[:power] / power, heads[::2] / (2 * power)))
    return torch.exp2(-exponents[:n_heads]).float().to(device)


def alibi_bias(
    slopes: Float[Tensor, " H"], queries: Int[Tensor, "#B T"], keys: Int[Tensor, "#B S"]
) -> Float[Tensor, "#B H T S"]:
    r"""Return ALiBi's penalty of each pair, a straight line in the distance; no mask included.

    $B_{h,t,s} = -m_h\,|t - s|$

    Example:
        >>> alibi_bias(torch.tensor([0.5]), torch.tensor([[2]]), torch.tensor([[0, 1, 2]])).tolist()
        [[[[-1.0, -0.5, -0.0]]]]

    References:
        Press et al. (2022), Train Short, Test Long, section 3 (there without the absolute value:
        its attention is causal).
    """
    distances = (queries.unsqueeze(-1) - keys.unsqueeze(-2)).abs()  # [#B, T, S]
    return -slopes[:, None, None] * distances.unsqueeze(1)  # [#B, H, T, S]
