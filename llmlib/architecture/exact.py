"""What stays in float32 when a model goes to 16 bits: positions, decays, and sums of many terms.

bfloat16 has 8 bits of mantissa: from 256 on it skips whole numbers, and 1 - 2^-9 is 1. So no tensor
that follows from positions or from the configuration is a buffer, which `.to(torch.bfloat16)` would
round with the weights (and `to_empty` would leave undefined): each is computed where it is used.
Parameters that a recurrence takes to the power of a distance stay by `KeepsFloat32`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import override

HALVES = (torch.float16, torch.bfloat16)


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """Return float64 for float64 and float32 for all others."""
    return dtype if dtype == torch.float64 else torch.float32


def wide(x: Tensor) -> Tensor:
    """Return a tensor in float32 at least: the FFT and products of many factors need it."""
    return x.float() if x.dtype in HALVES else x


def empty_wide(*shape: int) -> Tensor:
    """Set aside a tensor of the default type, but in float32 at least."""
    return torch.empty(*shape, dtype=wide_type(torch.get_default_dtype()))


def float64_device(device: torch.device | None) -> torch.device | None:
    """Return where float64 can be computed: the device itself, but for Apple's GPUs."""
    return torch.device("cpu") if device is not None and device.type == "mps" else device


class KeepsFloat32(nn.Module):
    """A module of which some parameters stay in float32 when the others become 16 bits wide.

    A rounding error in an exponent grows with the number of tokens that it is multiplied by.
    """

    exact: tuple[str, ...] = ()
    """Names of these parameters, dotted for those of its children."""

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        parameters = [self.get_parameter(name) for name in self.exact]
        kept = {id(x) for p in parameters for x in (p, p.grad) if x is not None}

        def apply(x: Tensor) -> Tensor:
            changed = fn(x)
            if id(x) in kept and changed.dtype in HALVES and x.dtype not in HALVES:
                return x.to(changed.device)
            return changed

        return super()._apply(apply, recurse)
