"""What this machine is and how fast it multiplies: the frame of every measured number."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmlib.core.hardware.device import cpu_flags

if TYPE_CHECKING:
    import torch

# The widest vector or matrix unit says most about speed: the first one found is named.
_UNITS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "sve", "asimd")


def available_cores() -> int:
    """Return how many processor cores this process may use, by its affinity mask if any."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor_name() -> str:
    """Return the processor's marketing name without marks, clock and core count."""
    name = ""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                name = value
                break
    except OSError:
        name = platform.processor()
    name = re.sub(r"\((R|TM|tm|r)\)|@.*|\d+-Core|\b(CPU|Processor)\b", "", name)
    return " ".join(name.split()) or platform.machine() or "unknown processor"


def machine_class() -> str:
    """Describe the kind of machine, so that a committed number says what it was measured on.

    Processor, cores this process may use, widest vector unit, and the GPU if torch sees one: for
    example `AMD EPYC, 2 cores, avx512_bf16`. Never the machine's own name.
    """
    import torch

    cores, flags = available_cores(), cpu_flags()
    parts = [_processor_name(), f"{cores} core" + "s" * (cores != 1)]
    parts += [unit for unit in _UNITS if unit in flags][:1]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def versions(*more: str) -> dict[str, str]:
    """Return the versions a result depends on, those of the distributions `more` among them.

    A distribution that is not installed is `"absent"`.

    Example:
        >>> sorted(versions())
        ['llmlib', 'numpy', 'python', 'torch']
    """
    import llmlib

    found = {"python": platform.python_version(), "llmlib": llmlib.__version__}
    for name in ("torch", "numpy", *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def matmul_rate(
    dtype: torch.dtype,
    *,
    size: int = 1024,
    seconds: int | float = 1.0,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    r"""Measure how fast this machine multiplies two square matrices.

    $$\text{rate} = \frac{2 n^3}{\operatorname{median}(t)}$$

    It is the practical peak against which a training step's FLOP/s are held: a vendor's figure
    assumes a clock and a memory that a laptop does not keep up.

    Args:
        size: Rows and columns n of each matrix; from about 1000 on the rate no longer grows.
        seconds: How long to repeat the product, after one that warms up.
        clock: Tells the seconds; `time.process_time` leaves out those in which other programs ran.

    Returns:
        FLOP/s, counting a multiply-add as two.

    Raises:
        ValueError: If the size or the time is not positive.

    Example:
        >>> import torch
        >>> matmul_rate(torch.float32, size=128, seconds=0.01) > 0
        True
    """
    import torch

    if size < 1 or seconds <= 0:
        raise ValueError(f"size and seconds must be positive, not {size} and {seconds}")
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    out = torch.empty_like(left)

    def once() -> float:
        start = clock()
        torch.mm(left, right, out=out)
        if out.is_cuda:
            torch.cuda.synchronize(out.device)
        return clock() - start

    with torch.no_grad():
        once()  # allocations and kernel choice are not what is measured
        deadline = time.perf_counter() + seconds
        times = [once()]
        while time.perf_counter() < deadline:
            times.append(once())
    return 2 * size**3 / max(statistics.median(times), 1e-9)
