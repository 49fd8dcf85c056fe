"""From logits to the next token: temperature, top-k, top-p and the draw."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
        if self.top_k is not None and not (isinstance(self.top_k, int) and self.top_k >= 1):
            raise ValueError(
                f"top_k must be a whole number of at least 1 token, got {self.top_k}: "
                "None keeps all"
            )
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

    A row whose quotients leave the range of numbers comes as $(z_w - \max z) / \tau$, which is the
    same distribution. Half precision comes back as float32.

    Raises:
        ValueError: If the temperature is not positive, or a row has no distribution.

    Example:
        >>> apply_temperature(torch.tensor([3.0, 7.0, 7.0]), 1e-40)
        tensor([-inf, 0., 0.])
    """
    if not temperature > 0:  # nor if it is no number
        raise ValueError(f"temperature must be positive here, got {temperature}: 0 means argmax")
    logits = _precise(logits)
    return _scaled(logits, temperature, _best(logits))


def keep_top_k(logits: Float[Tensor, "*B V"], k: int) -> Float[Tensor, "*B V"]:
    """Exclude all but the k most probable tokens.

    Tokens tied with the k-th are kept too, so that no token is preferred for its id.

    Raises:
        ValueError: If k is below 1, or a row has no distribution.

    Example:
        >>> keep_top_k(torch.tensor([1.0, 3.0, 2.0, 3.0]), 1)
        tensor([-inf, 3., -inf, 3.])

    References:
        Fan et al. (2018), "Hierarchical neural story generation", section 5.
    """
    if k < 1:
        raise ValueError(f"top_k must keep at least 1 token, got {k}")
    _best(logits)
    return _top(logits, k)


def _top(logits: Tensor, k: int) -> Tensor:
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]  # [*B, 1]
    return logits.masked_fill(logits < kth, -math.inf)


def keep_top_p(logits: Float[Tensor, "*B V"], p: int | float) -> Float[Tensor, "*B V"]:
    """Exclude all but the nucleus: the fewest most probable tokens whose mass is at least p.

    Of equally probable tokens at the border, those with lower ids are kept. A mass that reaches p
    but for the rounding of the logits' dtype has reached it: 0.5 and 0.3 are enough for 0.8.

    Raises:
        ValueError: If p is out of range, or a row has no distribution.

    Example:
        >>> keep_top_p(torch.tensor([0.1, 0.6, 0.3]).log(), 0.8).exp()
        tensor([0.0000, 0.6000, 0.3000])

    References:
        Holtzman et al. (2020), "The curious case of neural text degeneration", section 3.1.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p must lie above 0 and not above 1, got {p}")
    _best(logits)
    return _nucleus(logits, p, logits.dtype)


def _nucleus(logits: Tensor, p: int | float, rounded_to: torch.dtype) -> Tensor:
    """`keep_top_p` of logits that were rounded to a dtype, whichever they have now."""
    if p == 1:
        return logits  # a rounded running sum could reach 1 before the last tokens
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    working = _summing(logits)
    # A temperature of 1 changes nothing but infinity, of which softmax makes no number.
    precise = _precise(ordered)
    probability = _scaled(precise, 1, precise[..., :1]).softmax(dim=-1, dtype=working)
    # Eight units of half precision would be 6 % of the mass in bfloat16: one is enough there.
    rounding = max(8 * torch.finfo(precise.dtype).eps, torch.finfo(rounded_to).eps)
    rounding += logits.shape[-1] * torch.finfo(torch.float64).eps  # of the running sum
    enough = probability.cumsum(dim=-1) >= p - rounding
    after = F.pad(enough[..., :-1], (1, 0))  # the token that reaches p is kept, the first always
    return logits.masked_fill(torch.zeros_like(after).scatter(-1, order, after), -math.inf)


def filter_logits(logits: Float[Tensor, "*B V"], sampling: Sampling) -> Float[Tensor, "*B V"]:
    """Apply temperature, top-k and top-p; greedy keeps only the most probable token.

    Half precision comes back as float32. A logit of +inf takes all the mass, several share it.

    Raises:
        ValueError: If a row has no distribution: a logit is not a number, or all are -inf.
    """
    rounded_to = logits.dtype
    logits = _precise(logits)
    best = _best(logits)
    if sampling.is_greedy:
        first = logits.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits, -math.inf).scatter(-1, first, 0.0)
    logits = _scaled(logits, sampling.temperature, best)
    if sampling.top_k is not None:
        logits = _top(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = _nucleus(logits, sampling.top_p, rounded_to)
    return logits


def choose(
    logits: Float[Tensor, "B V"], sampling: Sampling, uniform: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """Choose a token for each row from a number drawn beforehand.

    The token is the first at which the cumulative distribution exceeds the row's number, so a row
    depends on its own number alone and not on its neighbours.

    Args:
        uniform: From 0 to 1; 1 itself, to which half precision may round, gives the last token.

    Raises:
        ValueError: If a number is outside, there is not one for each row, or a row has no
            distribution (see `filter_logits`).

    Example:
        >>> logits = torch.tensor([[0.2, 0.5, 0.3]]).log().repeat(3, 1)
        >>> choose(logits, Sampling(), torch.tensor([0.1, 0.6, 0.8]))
        tensor([0, 1, 2])
    """
    if uniform.shape != logits.shape[:1]:
        raise ValueError(
            f"uniform must hold a number for each of {len(logits)} rows, got {list(uniform.shape)}"
        )
    if sampling.is_greedy:
        _best(logits)
        return logits.argmax(dim=-1)
    if not ((uniform >= 0) & (uniform <= 1)).all():
        raise ValueError(f"uniform must lie between 0 and 1, got {uniform.tolist()}")
    working = _summing(logits)
    probability = filter_logits(logits, sampling).softmax(dim=-1, dtype=working)
    # Excluded tokens are set to 0, which no target is below: rounding cannot pick one of them.
    cumulative = probability.cumsum(dim=-1).masked_fill_(probability == 0, 0.0)
    total = cumulative.amax(dim=-1)
    scaled = uniform.to(working).to(total.device) * total
    target = torch.minimum(scaled, total.nextafter(torch.zeros_like(total)))
    return (cumulative > target[:, None]).byte().argmax(dim=-1)  # the first of equals


def _scaled(logits: Tensor, temperature: int | float, best: Tensor) -> Tensor:
    """`apply_temperature` of logits in float32 or better, whose largest of each row is `best`."""
    divisor = min(temperature, torch.finfo(logits.dtype).max)  # -inf / inf would be no number
    in_range = (best / divisor).isfinite()
    if in_range.all():
        return logits / divisor
    # What is best must stay 0 where the divisor rounds to 0, and where best - best is inf - inf.
    from_best = ((logits - best) / divisor).masked_fill(logits == best, 0.0)
    return torch.where(in_range, logits / divisor, from_best)


def _precise(logits: Tensor) -> Tensor:
    """The logits in float32 or better."""
    return logits if logits.dtype.itemsize >= 4 else logits.float()


def _summing(logits: Tensor) -> torch.dtype:
    # Apple's GPUs have no float64; elsewhere it keeps rare tokens from vanishing in a sum.
    return torch.float32 if logits.device.type == "mps" else torch.float64


def _best(logits: Tensor) -> Tensor:
    """The largest logit of each row, [*B, 1]; refuses rows that are no distribution."""
    if logits.shape[-1] == 0:
        raise ValueError("there are no logits: the vocabulary is empty")
    best = logits.amax(dim=-1, keepdim=True)  # not a number if one of the row is none
    for name, bad in (("NaN", best.isnan()), ("no logits above -inf", best == -math.inf)):
        if bad.any():
            rows = bad.flatten().nonzero().flatten().tolist()
            raise ValueError(
                f"the model returned {name} in rows {rows}: its weights or inputs are damaged"
            )
    return best
