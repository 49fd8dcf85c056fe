import math

from torch import Tensor


def interpolate_by_parts(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    """Divide slow pairs by the factor, keep fast ones, and blend from 1 to 32 turns."""
    turns = trained * frequencies / (2 * math.pi)
    kept = ((turns - 1) / (32 - 1)).clamp(0, 1)  # 0: interpolated, 1: left alone
    return kept * frequencies + (1 - kept) * frequencies / factor
