"""Rounding to a format: to the nearest number, or by chance so that the mean is right."""

import torch
from jaxtyping import Float
from torch import Tensor

from llmlib.training.formats.elements import BFLOAT16, FLOAT16, ElementFormat

_NATIVE = {BFLOAT16: torch.bfloat16, FLOAT16: torch.float16}


def round_to_nearest(
    x: Float[Tensor, "*shape"], to: ElementFormat, *, saturate: bool = True
) -> Float[Tensor, "*shape"]:
    r"""Round to the nearest number of a format, at a tie to the one whose last bit is zero.

    $q = u\,\mathrm{round}(x/u)$ with the spacing u at x; both steps are exact.

    Args:
        x: Read as float32.
        to: The format; what comes back is float32 too.
        saturate: Whether what rounds beyond the largest number becomes the largest, infinity
            too; otherwise it becomes infinity, or NaN where there is none. A format without NaN
            always saturates. NaN stays NaN.

    Example:
        >>> from llmlib.training.formats.elements import E2M1, E4M3
        >>> round_to_nearest(torch.tensor([0.25, 2.5, 3.5, -9.0]), E2M1)
        tensor([ 0.,  2.,  4., -6.])
        >>> round_to_nearest(torch.tensor([464.0, 465.0]), E4M3, saturate=False)
        tensor([448.,  nan])

    References:
        OCP 8-bit Floating Point Specification (2023), revision 1.0, section 5.2.
    """
    x = x.float()
    native = None if saturate else _NATIVE.get(to)
    if native is not None:  # the same numbers in a tenth of the time
        return x.to(native).float()
    spacing = to.spacing(x)
    return _overflow((x / spacing).round() * spacing, to, saturate)


def round_stochastically(
    x: Float[Tensor, "*shape"],
    to: ElementFormat,
    *,
    saturate: bool = True,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*shape"]:
    r"""Round up with the probability that makes the mean right, else down.

    Between neighbours $a \le x < a + u$: $P(q = a + u) = (x - a)/u$, so $\mathbb{E}\,q = x$. A
    number that the format has is never moved. Beyond the largest number that is over: what
    saturates has a mean too small.

    Args:
        x: Read as float32.
        to: The format; what comes back is float32 too.
        saturate: As for `round_to_nearest`.
        generator: Source of chance; default: torch's own.

    Example:
        >>> from llmlib.training.formats.elements import E2M1
        >>> _ = torch.manual_seed(0)
        >>> round_stochastically(torch.full((8,), 2.25), E2M1)  # 3 in a quarter of the cases
        tensor([2., 2., 3., 3., 2., 2., 2., 2.])

    References:
        Gupta et al. (2015), Deep Learning with Limited Numerical Precision, section 3.
    """
    x = x.float()
    spacing = to.spacing(x)
    steps = x / spacing
    below = steps.floor()
    # Adding chance before the floor would move whole numbers: 8 + 0.99999997 is 9 in float32.
    chance = torch.rand(x.shape, generator=generator, device=x.device)
    rounded = (below + (chance < steps - below)) * spacing
    return _overflow(rounded.copysign(x), to, saturate)  # -1 + 1 is +0, and -0 a code of its own


def _overflow(x: Tensor, to: ElementFormat, saturate: bool) -> Tensor:
    if saturate or to.special == "none":
        return x.clamp(-to.largest, to.largest)
    beyond = torch.nan if to.special == "nan" else torch.inf
    # With its sign: a NaN of the other sign is another code.
    return torch.where(x.abs() > to.largest, torch.full_like(x, beyond).copysign(x), x)
