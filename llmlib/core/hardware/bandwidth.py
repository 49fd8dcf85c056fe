"""How many bytes a second this machine moves: the other frame of every measured time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNKNOWN_CACHE = 32 * 2**20
_SMALLEST = 64 * 2**20  # of each array: small caches are left far behind


def last_cache_bytes(folder: Path = _CACHES) -> int:
    """Return the size of the largest cache that the first core sees, from the kernel's list.

    Where the system has no such list it is 32 MiB, which few processors exceed.
    """
    sizes = [_UNKNOWN_CACHE]
    for found in sorted(folder.glob("index*/size")):
        text = found.read_text(encoding="ascii").strip()
        unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 0)
        if unit and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * unit)
    return max(sizes[1:], default=_UNKNOWN_CACHE)


def stream_rate(
    *,
    array_bytes: int | None = None,
    seconds: int | float = 1.0,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    r"""Measure how many bytes a second this machine moves, by the sum $a \leftarrow a + s\,b$.

    $$\text{rate} = \frac{3 \cdot \text{bytes of an array}}{\operatorname{median}(t)}$$

    Two arrays are read and one is written; a multiplication and an addition stand against twelve
    bytes, so the memory decides. STREAM's triad $a = b + s\,c$ writes to a third array, which most
    processors fetch before they overwrite it: four arrays are moved and three are counted, and it
    shows a quarter less.

    Args:
        array_bytes: Of each of the two float32 arrays. Default: twice the last cache, and 64 MiB at
            least, so that what was read is gone when it is wanted again. Small arrays measure the
            caches.
        seconds: How long to repeat the sum, after one that warms up.
        clock: Tells the seconds; `time.process_time` leaves out those in which other programs ran.

    Returns:
        Bytes a second.

    Raises:
        ValueError: If an array has no number or the time is not positive.

    Example:
        >>> stream_rate(array_bytes=4096, seconds=0.01) > 0
        True

    References:
        McCalpin (1995), Memory Bandwidth and Machine Balance in Current High Performance Computers.
    """
    import torch

    size = max(_SMALLEST, 2 * last_cache_bytes()) if array_bytes is None else array_bytes
    if size < 4 or seconds <= 0:
        raise ValueError(
            f"array_bytes={array_bytes} must be at least 4, and seconds={seconds} positive"
        )
    total, added = (torch.ones(size // 4, device=device) for _ in range(2))
    repeats = max(1, 2**20 // size)  # a clock cannot time a few hundred numbers

    def once() -> float:
        start = clock()
        for _ in range(repeats):
            total.add_(added, alpha=1e-9)
        if total.is_cuda:
            torch.cuda.synchronize(total.device)
        return (clock() - start) / repeats

    once()  # the first touch of each page is not what is measured
    deadline = time.perf_counter() + seconds
    times = [once()]
    while time.perf_counter() < deadline:
        times.append(once())
    return 3 * total.nbytes / max(statistics.median(times), 1e-9)
