"""Which device to compute on, and whether it multiplies bfloat16 natively."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Flags of /proc/cpuinfo: x86 names first, then the Arm ones.
_BFLOAT16_FLAGS = ("amx_bf16", "avx512_bf16", "bf16", "svebf16")


def best_device(name: str | None = None) -> torch.device:
    """Return the named device, or else the fastest one: CUDA, else Apple's MPS, else the processor.

    Args:
        name: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`.

    Raises:
        ValueError: If the named device is not on this machine.

    Example:
        >>> best_device("cpu")
        device(type='cpu')
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name is None:
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} names no device; write 'cpu', 'cuda' or 'mps'") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if cuda else 0
        if (device.index or 0) >= count:
            raise ValueError(f"{name!r} is not on this machine, which has {count} CUDA devices")
    if device.type == "mps" and not mps:
        raise ValueError("'mps' is not on this machine; leave the device out to take the best one")
    return device


def cpu_flags() -> frozenset[str]:
    """Return the processor's feature flags, as the kernel names them; none if it tells none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def supports_bfloat16(device: torch.device | str) -> bool:
    """Tell whether a device multiplies bfloat16 matrices in hardware.

    Every device can emulate bfloat16; only where the hardware has it is it faster than float32.
    """
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return any(flag in cpu_flags() for flag in _BFLOAT16_FLAGS)
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return False
