"""From logits to the next token: temperature, top-k, top-p and the draw."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    The filters apply in the order of the fields: temperature, then top-k, then top-p on what is
    left. The default draws from the model's own distribution.

    Example:
        >>> Sampling(temperature=0.7, top_p=0.9).is_greedy
        False
    """

    temperature: int | float = 1.0
    """Divides the logits; below 1 sharpens, above 1 flattens, 0 is greedy."""
    top_k: int | None = None
    """Keep this many most probable tokens; None keeps all."""
    top_p: int | float | None = None
    """Keep the most probable tokens until their mass reaches this, in (0, 1]; None keeps all."""

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be 0 (greedy) or above, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must keep at least 1 token, got {self.top_k}: None keeps all")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie above 0 and not above 1, got {self.top_p}")

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0


GREEDY = Sampling(temperature=0.0)
"""Always the most probable token; of equals, the one with the lowest id."""


def apply_temperature(
    logits: Float[Tensor, "*B V"], temperature: int | float
) -> Float[Tensor, "*B V"]:
    r"""Sharpen or flatten a distribution: $P(w) \propto \exp(z_w / \tau)$.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive here, got {temperature}: 0 means argmax")
    return logits / temperature


def keep_top_k(logits: Float[Tensor, "*B V"], k: int) -> Float[Tensor, "*B V"]:
    """Exclude all but the k most probable tokens.

    Tokens tied with the k-th are kept too, so that no token is preferred for its id.

    Raises:
        ValueError: If k is below 1.

    Example:
        >>> keep_top_k(torch.tensor([1.0, 3.0, 2.0, 3.0]), 1)
        tensor([-inf, 3., -inf, 3.])

    References:
        Fan et al. (2018), "Hierarchical neural story generation", section 5.
    """
    if k < 1:
        raise ValueError(f"top_k must keep at least 1 token, got {k}")
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]  # [*B, 1]
    return logits.masked_fill(logits < kth, -math.inf)


def keep_top_p(logits: Float[Tensor, "*B V"], p: int | float) -> Float[Tensor, "*B V"]:
    """Exclude all but the nucleus: the fewest most probable tokens whose mass is at least p.

    Of equally probable tokens at the border, those with lower ids are kept.

    Raises:
        ValueError: If p is out of range.

    Example:
        >>> keep_top_p(torch.tensor([0.1, 0.6, 0.3]).log(), 0.8).exp()
        tensor([0.0000, 0.6000, 0.3000])

    References:
        Holtzman et al. (2020), "The curious case of neural text degeneration", section 3.1.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must lie above 0 and not above 1, got {p}")
    if p == 1:
        return logits  # a rounded running sum could reach 1 before the last tokens
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probability = ordered.float().softmax(dim=-1)
    mass_before = probability.cumsum(dim=-1) - probability
    excluded = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, mass_before >= p)
    return logits.masked_fill(excluded, -math.inf)


def filter_logits(logits: Float[Tensor, "*B V"], sampling: Sampling) -> Float[Tensor, "*B V"]:
    """Apply temperature, top-k and top-p; greedy keeps only the most probable token."""
    if sampling.is_greedy:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, best, 0.0)
    logits = apply_temperature(logits, sampling.temperature)
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    return logits


def choose(
    logits: Float[Tensor, "B V"], sampling: Sampling, uniform: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """Choose a token for each row from a number drawn beforehand.

    The token is the first at which the cumulative distribution exceeds the row's number, from 0 up
    to but not including 1, so a row depends on its own number alone and not on its neighbours.

    Raises:
        ValueError: If a logit is not a number.

    Example:
        >>> logits = torch.tensor([[0.2, 0.5, 0.3]]).log().repeat(3, 1)
        >>> choose(logits, Sampling(), torch.tensor([0.1, 0.6, 0.8]))
        tensor([0, 1, 2])
    """
    if torch.isnan(logits).any():
        raise ValueError("the model returned NaN logits: its weights or inputs are damaged")
    if sampling.is_greedy:
        return logits.argmax(dim=-1)
    # Apple's GPUs have no float64; elsewhere it keeps rare tokens from vanishing in the sum.
    dtype = torch.float32 if logits.device.type == "mps" else torch.float64
    cumulative = filter_logits(logits, sampling).softmax(dim=-1, dtype=dtype).cumsum(dim=-1)
    total = cumulative[:, -1]
    # Strictly below the total, or rounding could pick an excluded token behind the last allowed.
    scaled = uniform.to(dtype).to(total.device) * total
    target = torch.minimum(scaled, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target[:, None], right=True)[:, 0]
