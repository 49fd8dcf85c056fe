"""Two ways to measure memory: the process's resident bytes, and the tensors a block allocates."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def resident_bytes() -> int:
    """Return the bytes that this process holds in RAM, from the kernel's page count.

    Where the system has no `/proc`, it is the highest value so far, which is all it tells.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


class MemoryMeter:
    """Sample the process's resident memory while a block runs.

    It sees everything, Python objects and library buffers included, but misses a peak shorter than
    the interval, and memory that the allocator keeps for later still counts.

    Attributes:
        start_bytes: Resident bytes on entry.
        peak_bytes: The highest sample.

    Example:
        >>> import mmap
        >>> pages = mmap.mmap(-1, 50_000_000)  # reserved, but not yet in memory
        >>> with MemoryMeter() as meter:
        ...     pages[::4096] = bytes(12_208)  # a zero into every page
        >>> meter.extra_bytes > 40_000_000
        True
    """

    def __init__(self, interval_s: int | float = 0.005) -> None:
        if interval_s <= 0:
            raise ValueError(f"the interval must be positive, not {interval_s}")
        self.interval_s = interval_s
        self.start_bytes = 0
        self.peak_bytes = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def extra_bytes(self) -> int:
        """How far the peak rose above the start."""
        return self.peak_bytes - self.start_bytes

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, resident_bytes())

    def _watch(self) -> None:
        while not self._done.wait(self.interval_s):
            self._sample()

    def __enter__(self) -> MemoryMeter:
        self._done.clear()
        self.start_bytes = self.peak_bytes = resident_bytes()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="memory meter")
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._sample()
        self._done.set()
        if self._thread is not None:
            self._thread.join()


@dataclass
class Allocations:
    """The bytes of the tensors that a block allocated."""

    current_bytes: int = 0
    """Bytes allocated in the block and still alive."""
    peak_bytes: int = 0
    """The highest value `current_bytes` had."""


class _AllocationMode(TorchDispatchMode):
    """Count each new storage that an operation returns, until it is freed."""

    def __init__(self, allocations: Allocations) -> None:
        super().__init__()
        self.allocations = allocations
        self._known: set[int] = set()  # storages that are counted, or were there before

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        # An in-place operation returns what it was given: that is no new memory.
        for leaf in tree_leaves((args, kwargs)):
            self._note(leaf, counted=False)
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            self._note(leaf, counted=True)
        return result

    def _note(self, leaf: object, *, counted: bool) -> None:
        if not isinstance(leaf, torch.Tensor) or leaf.layout is not torch.strided:
            return
        storage = leaf.untyped_storage()
        key = storage._cdata  # the address of the storage itself; views share it
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes() if counted else 0
        # torch keeps a storage's Python object as long as the storage lives, so its end is the
        # memory's end, also for tensors that only the autograd graph holds.
        weakref.finalize(storage, self._forget, key, size).atexit = False
        self.allocations.current_bytes += size
        self.allocations.peak_bytes = max(
            self.allocations.peak_bytes, self.allocations.current_bytes
        )

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.allocations.current_bytes -= size


@contextmanager
def tracked_allocations() -> Iterator[Allocations]:
    """Count the bytes of the tensors allocated inside the block, and their peak.

    It is exact and repeatable, unlike resident memory: each storage counts once, however many views
    it has, from the operation that returns it until it is freed; activations saved for the backward
    pass count too. What a kernel allocates and frees within one operation is not seen, nor are
    Python objects.

    Example:
        >>> with tracked_allocations() as memory:
        ...     a = torch.zeros(1000)  # 4000 bytes
        ...     b = a + 1  # 4000 more
        ...     del a
        ...     c = b.view(10, 100)  # shares b's storage
        >>> memory.peak_bytes, memory.current_bytes
        (8000, 4000)
    """
    allocations = Allocations()
    with _AllocationMode(allocations):
        yield allocations
