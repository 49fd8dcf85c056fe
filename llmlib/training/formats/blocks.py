"""Blocks of numbers that share a scale: MXFP8, MXFP4, NVFP4, and FP8 by rows or tensors."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from llmlib.training.formats.elements import (
    E2M1,
    E4M3,
    E5M2,
    ElementFormat,
    encode_e8m0,
    power_below,
)
from llmlib.training.formats.rounding import round_stochastically, round_to_nearest

_LEAST_SCALE = 2.0**-126
"""float32's smallest normal number: scales below lose digits, and zero cannot be divided by."""


@dataclass(frozen=True, kw_only=True)
class BlockFormat:
    """Elements of few bits, and one scale for each `size` of them along the last axis.

    Example:
        >>> [(form.name, form.bits_per_element) for form in (MXFP8, MXFP4, NVFP4)]
        [('MXFP8', 8.25), ('MXFP4', 4.25), ('NVFP4', 4.5)]
    """

    name: str
    element: ElementFormat
    size: int | Literal["row", "tensor"]
    """Elements that share a scale."""
    scale: Literal["e8m0", "e4m3", "float32"]
    """Format of the scales. `e8m0` is a power of two, by which the largest number of the block
    comes into the elements' top binade; `e4m3` brings it to the elements' largest, and stands under
    a float32 scale of the whole tensor; `float32` does the same with no other scale."""

    @property
    def bits_per_element(self) -> float:
        """Bits of an element and its share of the scale; scales of rows and tensors count as 0."""
        bits = {"e8m0": 8, "e4m3": 8, "float32": 32}[self.scale]
        return self.element.bits + (bits / self.size if isinstance(self.size, int) else 0)


MXFP8 = BlockFormat(name="MXFP8", element=E4M3, size=32, scale="e8m0")
MXFP4 = BlockFormat(name="MXFP4", element=E2M1, size=32, scale="e8m0")
NVFP4 = BlockFormat(name="NVFP4", element=E2M1, size=16, scale="e4m3")
FP8_ROW = BlockFormat(name="FP8, a scale a row", element=E4M3, size="row", scale="float32")
FP8_TENSOR = BlockFormat(name="FP8, one scale", element=E4M3, size="tensor", scale="float32")
FP8_GRADIENT = BlockFormat(name="FP8 E5M2, one scale", element=E5M2, size="tensor", scale="float32")


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A tensor in a block format."""

    form: BlockFormat
    elements: Float[Tensor, "*blocks size"]
    """What the elements' codes mean; a block that was filled up ends in zeros."""
    scales: Float[Tensor, "*blocks 1"]
    """What the scales' codes mean; NaN for a block that held infinity or NaN."""
    tensor_scale: Float[Tensor, ""]
    """The second scale of NVFP4; 1 in the other formats."""
    shape: torch.Size
    """The tensor's own shape."""

    def dequantize(self) -> Float[Tensor, "..."]:
        """Return element times scale times the tensor's scale, in float32."""
        x = self.elements * (self.scales * self.tensor_scale)
        if self.form.size == "tensor":
            return x.view(self.shape)
        return x.flatten(-2)[..., : self.shape[-1]]

    def codes(self) -> UInt8[Tensor, "*blocks size"]:
        """Return the elements' codes; those of a NaN block are codes of zero."""
        return self.form.element.encode(self.elements)

    def scale_codes(self) -> UInt8[Tensor, "*blocks 1"] | Int[Tensor, "*blocks 1"]:
        """Return the scales' codes; float32 scales have their bits, in an int32."""
        if self.form.scale == "e8m0":
            return encode_e8m0(self.scales)
        if self.form.scale == "e4m3":
            return E4M3.encode(self.scales)
        return self.scales.view(torch.int32)


def quantize(
    x: Float[Tensor, "..."],
    form: BlockFormat,
    *,
    stochastic: bool = False,
    generator: torch.Generator | None = None,
) -> Quantized:
    r"""Give each block of the last axis its scale X, and round $x/X$ to the elements, saturating.

    MX: $X = 2^{\lfloor\log_2 a\rfloor - e_\text{max}}$ with the block's largest magnitude a and the
    elements' top exponent. $a/X$ lies below $2^{e_\text{max}+1}$, so it may be beyond the largest
    element (448 of 512, 6 of 8) and saturate. NVFP4: with the tensor's largest magnitude A, the
    tensor's scale is $s = A/(448 \cdot 6)$, a block's E4M3 of $a/(6s)$. FP8: $X = a/448$.

    A block with an infinity or a NaN is NaN as a whole; the other blocks are as without it. A block
    of zeros has the smallest scale. The last block of a row is filled up with zeros.

    Args:
        x: Read as float32; at least one axis.
        stochastic: Round the elements by chance (the scales never).
        generator: Source of chance; default: torch's own.

    Raises:
        ValueError: When the tensor has no axis.

    Example:
        >>> found = quantize(torch.tensor([3.0, -0.4, 0.05]), MXFP4)
        >>> found.scales.item(), found.dequantize()
        (0.5, tensor([ 3.0000, -0.5000,  0.0000]))

    References:
        OCP Microscaling Formats Specification (2023), version 1.0, section 6.3; NVIDIA (2025),
        Pretraining Large Language Models with NVFP4, appendix B.
    """
    if not x.dim():
        raise ValueError("blocks lie along the last axis: give the number an axis, x.view(1)")
    x = x.float().contiguous()  # a transposed matrix would be read across its rows many times
    blocks = _blocks(x, form.size)
    if blocks.numel():
        largest = blocks.abs().amax(dim=-1, keepdim=True)
    else:
        largest = blocks.new_zeros(*blocks.shape[:-1], 1)
    broken = ~largest.isfinite()
    largest = largest.masked_fill(broken, 0)
    tensor_scale = torch.ones((), device=x.device)
    top = form.element.largest
    if form.scale == "e8m0":
        # Multiplied, not subtracted from a logarithm: exact at the edges of a binade.
        scales = (power_below(largest) * 2.0**-form.element.top_exponent).clamp_min(2.0**-127)
    elif form.scale == "e4m3":
        whole = largest.max() if largest.numel() else tensor_scale
        tensor_scale = (whole / (E4M3.largest * top)).clamp_min(_LEAST_SCALE)
        scales = round_to_nearest(largest / top / tensor_scale, E4M3)
    else:
        scales = (largest / top).clamp_min(_LEAST_SCALE)
    shared = scales * tensor_scale
    scaled = torch.where(broken | (shared == 0), 0, blocks / shared)
    if stochastic:
        elements = round_stochastically(scaled, form.element, generator=generator)
    else:
        elements = round_to_nearest(scaled, form.element)
    scales = scales.masked_fill(broken, torch.nan)
    return Quantized(
        form=form, elements=elements, scales=scales, tensor_scale=tensor_scale, shape=x.shape
    )


def _blocks(x: Tensor, size: int | Literal["row", "tensor"]) -> Float[Tensor, "*blocks size"]:
    if size == "tensor":
        return x.reshape(1, -1)
    if size == "row":
        return x.unsqueeze(-2)
    length = x.shape[-1]
    return F.pad(x, (0, -length % size)).unflatten(-1, (-(-length // size), size))
