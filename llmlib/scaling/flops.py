"""Arithmetic of a training run: operations, utilization, hours and money."""

import math
from dataclasses import dataclass

SECONDS_PER_HOUR = 3600.0
PF_DAY = 1e15 * 86_400
"""FLOPs of one petaFLOP/s sustained for a day, 8.64e19: the unit of Kaplan et al. (2020)."""

PEAK_FLOPS: dict[str, float] = {
    "V100 fp16": 125e12,
    "A100 bf16": 312e12,
    "H100 SXM bf16": 989.4e12,
    "TPU v4 bf16": 275e12,
}
"""Peak rates of dense matrix products in FLOP/s, as the makers' data sheets state them."""


def _require_positive(**values: int | float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be a positive number, got {value}")


def training_flops(n_params: int | float, n_tokens: int | float) -> float:
    """Estimate the operations of training: $C = 6 N D$.

    Each token meets each weight once in a multiplication and an addition going forward, and twice
    as often going backward. Attention's own products and the embedding look-up are left out;
    `llmlib.architecture.counts` has the exact count of a configuration.

    Args:
        n_params: Weights that multiply, N (without embeddings).

    Example:
        >>> f"{training_flops(175e9, 300e9):.2e}"  # GPT-3
        '3.15e+23'

    References:
        Kaplan et al. (2020), section 2.1.
    """
    _require_positive(n_params=n_params, n_tokens=n_tokens)
    return 6.0 * n_params * n_tokens


def inference_flops(n_params: int | float, n_tokens: int | float) -> float:
    """Estimate the operations of reading or generating tokens: $2 N D$.

    Example:
        >>> inference_flops(7e9, 1)
        14000000000.0
    """
    _require_positive(n_params=n_params, n_tokens=n_tokens)
    return 2.0 * n_params * n_tokens


def mfu(flops: int | float, seconds: int | float, peak: int | float) -> float:
    """Return model FLOPs utilization: the share of the peak rate that did the model's arithmetic.

    Operations that are done twice to save memory do not count twice. The peak, in FLOP/s, is that
    of all devices together.

    Example:
        >>> mfu(flops=6 * 1e9 * 1e6, seconds=50.0, peak=312e12)
        0.38461538461538464

    References:
        Chowdhery et al. (2022), "PaLM", section 4.1.
    """
    _require_positive(flops=flops, seconds=seconds, peak=peak)
    return flops / seconds / peak


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """Time and money of a training run."""

    flops: int | float
    seconds: int | float
    """Wall time."""
    device_hours: int | float
    """Devices times hours."""
    price: int | float
    """Money, in the unit of the hourly price; 0 where none was given."""


def run_cost(
    flops: int | float,
    *,
    peak: int | float,
    utilization: int | float,
    n_devices: int = 1,
    price_per_device_hour: int | float = 0.0,
) -> RunCost:
    """Estimate how long a run takes and what it costs.

    Args:
        peak: Peak rate of one device, in FLOP/s.
        utilization: The MFU expected, above 0 and at most 1; large runs report 0.3 to 0.55.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> cost = run_cost(6 * 6.7e9 * 1e12, peak=312e12, utilization=0.5, n_devices=1024)
        >>> round(cost.device_hours)
        71581

    References:
        Touvron et al. (2023), "LLaMA", table 15, reports 82,432 GPU-hours for that run.
    """
    _require_positive(flops=flops, peak=peak, n_devices=n_devices)
    if not 0 < utilization <= 1:
        raise ValueError(f"utilization must lie above 0 and not above 1, got {utilization}")
    if price_per_device_hour < 0:
        raise ValueError(f"price_per_device_hour must not be negative: {price_per_device_hour}")
    device_seconds = flops / (peak * utilization)
    device_hours = device_seconds / SECONDS_PER_HOUR
    return RunCost(
        flops=flops,
        seconds=device_seconds / n_devices,
        device_hours=device_hours,
        price=device_hours * price_per_device_hour,
    )
