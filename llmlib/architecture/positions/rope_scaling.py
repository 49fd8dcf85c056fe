"""RoPE's frequencies beyond the length that a model was trained for."""

import math
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.exact import float64_device
from llmlib.architecture.positions.rope import rope_frequencies

Factor = TypeVar("Factor", float, Tensor)

FAST_TURNS, SLOW_TURNS = 32.0, 1.0
"""YaRN: pairs that turn more often than this over the trained length are kept, those that turn less
than once are interpolated, the others lie between (its section 3.2, alpha = 1 and beta = 32)."""


def rope_table(
    config: ModelConfig,
    n_positions: int | Int[Tensor, "*rows"],
    device: torch.device | None = None,
) -> tuple[Float[Tensor, "*#rows half"], float]:
    """Return the frequencies that a configuration asks for, and a factor of cosine and sine.

    The factor is 1 but for `yarn`.

    Args:
        n_positions: Length of the text in tokens, or of each text, on which `dynamic` alone
            depends: for several lengths it returns a row of frequencies each.

    Example:
        >>> config = ModelConfig(
        ...     vocab_size=7, d_model=8, n_layers=1, n_heads=2, max_seq_len=64,
        ...     rope_scaling="linear", rope_factor=4.0)
        >>> rope_table(config, 64)[0]
        tensor([0.2500, 0.0025])
    """
    width = config.rope_head_dim if config.mixer == "latent" else config.head_dim
    theta, factor, trained = config.rope_theta, config.rope_factor, config.rope_original_len
    plain = rope_frequencies(width, theta, device)
    match config.rope_scaling:
        case "linear":
            return plain / factor, 1.0
        case "ntk":
            return rope_frequencies(width, stretched_base(width, theta, factor), device), 1.0
        case "dynamic":
            lengths = torch.as_tensor(n_positions, device=float64_device(device)).double()
            needed = (factor * lengths / trained - (factor - 1)).clamp_min(1).unsqueeze(-1)
            return rope_frequencies(width, stretched_base(width, theta, needed), device), 1.0
        case "yarn":
            return yarn_frequencies(plain, theta, factor, trained), yarn_temperature(factor)
        case "basis":
            return truncated_frequencies(plain, factor, trained), 1.0
        case "none" | "rerope":
            return plain, 1.0


def stretched_base(head_dim: int, theta: float, factor: Factor) -> Factor:
    r"""Return the base whose slowest pair turns `factor` times more slowly.

    $\theta' = \theta\, s^{K/(K-2)}$ for heads of width K: the fastest pair stays as it is, the
    slowest is interpolated.

    Raises:
        ValueError: When a head has one pair only, which is fastest and slowest at once.

    Example:
        >>> stretched_base(4, 100.0, 3.0)
        900.0

    References:
        bloc97 (2023), NTK-Aware Scaled RoPE (a post on reddit); Peng et al. (2023), YaRN,
        definition 1.
    """
    if head_dim <= 2:
        raise ValueError(f"a head of width {head_dim} has one pair: it cannot be stretched by base")
    return theta * factor ** (head_dim / (head_dim - 2))  # pyright: ignore[reportReturnType]


def yarn_frequencies(
    plain: Float[Tensor, " half"], theta: float, factor: float, trained: int
) -> Float[Tensor, " half"]:
    r"""Interpolate the slow pairs, keep the fast ones, and blend between.

    $\omega'_i = (1 - \gamma_i)\,\omega_i / s + \gamma_i\,\omega_i$, where the ramp $\gamma$ falls
    from 1 at the pair that turns 32 times over the trained length to 0 at the one that turns once.

    References:
        Peng et al. (2023), YaRN, section 3.2. As in its code, the ramp is linear in the pair's
        index; the paper's equation 17 is linear in the number of turns.
    """
    width = 2 * len(plain)

    def pair_that_turns(times: float) -> float:
        return width * math.log(trained / (times * 2 * math.pi)) / (2 * math.log(theta))

    low = max(0, math.floor(pair_that_turns(FAST_TURNS)))
    high = min(width - 1, math.ceil(pair_that_turns(SLOW_TURNS)))
    pairs = torch.arange(len(plain), dtype=plain.dtype, device=plain.device)
    ramp = ((pairs - low) / max(high - low, 1e-3)).clamp(0, 1)
    return plain / factor * ramp + plain * (1 - ramp)


def yarn_temperature(factor: float) -> float:
    r"""Return YaRN's factor of cosine and sine, $0.1 \ln s + 1$.

    It multiplies queries and keys alike, so the scores by its square, which sharpens the softmax
    over the longer text.

    References:
        Peng et al. (2023), YaRN, equation 22.
    """
    return 0.1 * math.log(factor) + 1.0


def truncated_frequencies(
    plain: Float[Tensor, " half"], factor: float, trained: int
) -> Float[Tensor, " half"]:
    r"""Keep the pairs that turned whole in training; stop the others, or nearly.

    $\omega'_i = \omega_i$ for $\omega_i \ge b$, $\rho$ for $a < \omega_i < b$ and 0 below. The
    paper tunes its three constants; here they follow from the trained length: $b = 2\pi / L$, one
    whole turn, $a = b / 4$, a quarter of one, and $\rho = a / s$, which over the stretched length
    stays inside the quarter that was seen.

    References:
        Pal et al. (2023), Giraffe, section 3.4.
    """
    whole = 2 * math.pi / trained
    quarter = whole / 4
    slow = torch.full_like(plain, quarter / factor).where(plain > quarter, 0.0)
    return plain.where(plain >= whole, slow)
