"""In which number format the matrix products run."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch

from llmlib.core.hardware.device import supports_bfloat16

Precision = Literal["float32", "float16", "bfloat16", "auto"]


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """Turn `auto` into bfloat16 where the device multiplies it natively, else float32.

    Raises:
        ValueError: When the name is unknown.

    Example:
        >>> resolve_precision("bfloat16", torch.device("cpu"))
        torch.bfloat16
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision={precision!r} is unknown: one of {get_args(Precision)}")
    if precision == "float32" or (precision == "auto" and not supports_bfloat16(device)):
        return torch.float32
    return torch.float16 if precision == "float16" else torch.bfloat16


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which matrix products run in the chosen format.

    Parameters, gradients and optimizer state stay float32. bfloat16 has float32's range; float16
    has not, and needs a `LossScaler`.

    Example:
        >>> with autocast("bfloat16", torch.device("cpu")):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16

    References:
        Micikevicius et al. (2018), Mixed Precision Training; Kalamkar et al. (2019), A Study of
        BFLOAT16 for Deep Learning Training.
    """
    dtype = resolve_precision(precision, device)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)
