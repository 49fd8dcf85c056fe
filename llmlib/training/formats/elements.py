"""Floating-point numbers of few bits: what each code means, and which code a number has."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

Special = Literal["ieee", "nan", "none"]

_EXPONENT_BITS = 0x7F80_0000
_BIAS = 127


def power_below(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    r"""Return $2^{\lfloor \log_2 |x| \rfloor}$, read from the exponent bits of a float32.

    It is 0 for zero and for the numbers below float32's smallest normal one, infinite for infinity
    and NaN. A logarithm would be rounded, and wrong just below a power of two.

    Example:
        >>> power_below(torch.tensor([1.0, 1.9999999, -6.0, 0.0]))
        tensor([1., 1., 4., 0.])
    """
    return (x.float().view(torch.int32) & _EXPONENT_BITS).view(torch.float32)


@dataclass(frozen=True, kw_only=True)
class ElementFormat:
    r"""A sign, `exponent_bits` bits of exponent e, and `mantissa_bits` bits of mantissa m.

    A code means $(-1)^s\,2^{e-\text{bias}}\,(1 + m/2^M)$, or for $e = 0$ the subnormal
    $(-1)^s\,2^{1-\text{bias}}\,m/2^M$.

    Example:
        >>> E4M3.largest, E4M3.smallest, E4M3.decode(torch.tensor([0x38, 0x39], dtype=torch.uint8))
        (448.0, 0.001953125, tensor([1.0000, 1.1250]))
        >>> E4M3.encode(torch.tensor([1.0, -448.0]))
        tensor([ 56, 254], dtype=torch.uint8)

    References:
        OCP 8-bit Floating Point Specification (2023), revision 1.0, table 1; OCP Microscaling
        Formats Specification (2023), version 1.0, section 5.3.
    """

    name: str
    exponent_bits: int
    mantissa_bits: int
    bias: int
    special: Special
    """Which codes are no numbers: `ieee`, the whole top exponent is for infinity and NaN; `nan`,
    the code with all bits set alone; `none`, every code is a number."""

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return 1 + self.exponent_bits + self.mantissa_bits

    @property
    def top_exponent(self) -> int:
        """Exponent of the largest number, emax in the standard."""
        return (1 << self.exponent_bits) - 1 - (self.special == "ieee") - self.bias

    @property
    def largest(self) -> float:
        """The largest finite number."""
        taken = self.special == "nan"  # the mantissa of ones is NaN at the top exponent
        return 2.0**self.top_exponent * (2 - 2.0**-self.mantissa_bits * (1 + taken))

    @property
    def smallest_normal(self) -> float:
        """The smallest number with all its mantissa bits."""
        return 2.0 ** (1 - self.bias)

    @property
    def smallest(self) -> float:
        """The smallest number above zero."""
        return self.smallest_normal * 2.0**-self.mantissa_bits

    def spacing(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the distance of neighbouring numbers at $|x|$, as if there were no largest one.

        Example:
            >>> E4M3.spacing(torch.tensor([0.0, 1.0, 1.9, 2.0, 500.0]))
            tensor([1.9531e-03, 1.2500e-01, 1.2500e-01, 2.5000e-01, 3.2000e+01])
        """
        power = power_below(x).clamp(self.smallest_normal, 2.0**_BIAS)
        return power * 2.0**-self.mantissa_bits

    def encode(self, x: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"] | Int[Tensor, "*shape"]:
        """Return the codes of numbers that the format has; others are to be rounded first.

        Raises:
            ValueError: When a number is not one of the format's, or a NaN and it has none.
        """
        x = x.float()
        steps = x.abs() / self.spacing(x)  # below 2^(M + 1), a whole number
        known = (steps == steps.round()) & (x.abs() <= self.largest)
        known |= x.isnan() & (self.special != "none") | x.isinf() & (self.special == "ieee")
        if not known.all():
            wrong = x[~known].view(-1)[0].item()
            raise ValueError(f"{self.name} has no {wrong}: round to the format before encoding")
        # A normal number's steps begin at 2^M, which adds the 1 that its exponent is above zero.
        power = power_below(x).clamp_min(self.smallest_normal)
        exponent = (power.view(torch.int32) >> 23) - _BIAS + self.bias - 1
        codes = (exponent << self.mantissa_bits) + steps.nan_to_num(0, 0, 0).int()
        codes = torch.where(x.isinf(), self._infinity, codes)
        codes = torch.where(x.isnan(), self._nan, codes)
        codes += x.signbit().int() << (self.bits - 1)
        return codes.to(torch.uint8) if self.bits <= 8 else codes

    def decode(
        self, codes: UInt8[Tensor, "*shape"] | Int[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """Return what codes mean, in float32.

        Raises:
            ValueError: When a code has more bits than the format.
        """
        codes = codes.int()
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < 1 << self.bits:
            raise ValueError(f"{self.name} has codes from 0 to {(1 << self.bits) - 1}")
        size = codes & ((1 << (self.bits - 1)) - 1)
        exponent, mantissa = size >> self.mantissa_bits, size & ((1 << self.mantissa_bits) - 1)
        whole = mantissa + ((exponent > 0).int() << self.mantissa_bits)
        power = (exponent.clamp_min(1) - self.bias + _BIAS << 23).view(torch.float32)
        x = whole * (power * 2.0**-self.mantissa_bits)
        if self.special == "ieee":
            x = torch.where(size >= self._infinity, torch.inf, x)
            x = torch.where(size > self._infinity, torch.nan, x)
        elif self.special == "nan":
            x = torch.where(size == self._nan, torch.nan, x)
        return torch.where(codes >> (self.bits - 1) > 0, -x, x)

    @property
    def _infinity(self) -> int:
        return (1 << self.exponent_bits) - 1 << self.mantissa_bits

    @property
    def _nan(self) -> int:
        if self.special == "ieee":  # quiet: the first bit of the mantissa
            return self._infinity + (1 << self.mantissa_bits - 1)
        return (1 << self.bits - 1) - 1


FLOAT16 = ElementFormat(name="float16", exponent_bits=5, mantissa_bits=10, bias=15, special="ieee")
BFLOAT16 = ElementFormat(
    name="bfloat16", exponent_bits=8, mantissa_bits=7, bias=127, special="ieee"
)
E5M2 = ElementFormat(name="E5M2", exponent_bits=5, mantissa_bits=2, bias=15, special="ieee")
E4M3 = ElementFormat(name="E4M3", exponent_bits=4, mantissa_bits=3, bias=7, special="nan")
E3M2 = ElementFormat(name="E3M2", exponent_bits=3, mantissa_bits=2, bias=3, special="none")
E2M3 = ElementFormat(name="E2M3", exponent_bits=2, mantissa_bits=3, bias=1, special="none")
E2M1 = ElementFormat(name="E2M1", exponent_bits=2, mantissa_bits=1, bias=1, special="none")


def encode_e8m0(scales: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    r"""Return the codes of powers of two: the exponent of $2^e$, from -127 to 127, plus 127.

    Code 255 is NaN; there is no zero, no sign and no infinity.

    Raises:
        ValueError: When a scale is neither a power of two in this range nor NaN.

    Example:
        >>> encode_e8m0(torch.tensor([1.0, 0.25, 2.0**-127, torch.nan]))
        tensor([127, 125,   0, 255], dtype=torch.uint8)

    References:
        OCP Microscaling Formats Specification (2023), version 1.0, section 5.4.1.
    """
    scales = scales.float()
    power = power_below(scales).clamp_min(2.0**-_BIAS)  # 2^-127 is subnormal in float32
    known = (scales == power) & scales.isfinite() | scales.isnan()
    if not known.all():
        raise ValueError(
            f"E8M0 has no {scales[~known].view(-1)[0].item()}: powers of two from 2^-127 to 2^127 "
            "and NaN alone"
        )
    codes = power.view(torch.int32) >> 23
    return torch.where(scales.isnan(), 255, codes).to(torch.uint8)


def decode_e8m0(codes: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the powers of two that codes mean, in float32.

    Example:
        >>> decode_e8m0(torch.tensor([127, 120, 255], dtype=torch.uint8))
        tensor([1.0000, 0.0078,    nan])
    """
    powers = (codes.int() << 23).view(torch.float32)
    powers = torch.where(codes == 0, 2.0**-_BIAS, powers)
    return torch.where(codes == 255, torch.nan, powers)
