"""Other processes that work through a stream of items; the results keep the items' order."""

from __future__ import annotations

import multiprocessing as mp
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_shared: Any = None


class Workers:
    """Processes that hold one object, sent to each once, and apply functions to it and to items.

    A pool of the standard library takes all items of a `map` at once, however slowly the results
    are used; here a bounded number is on its way, so a stream may be longer than memory. With one
    worker everything happens in this process.

    Args:
        shared: What each function gets before its item; it must survive `pickle`.

    Example:
        >>> with Workers(1, shared=10) as workers:
        ...     list(workers.map(pow, [0, 1, 2]))
        [1, 10, 100]
    """

    def __init__(self, n: int, shared: Any) -> None:
        if n < 1:
            raise ValueError(f"work needs at least one process, not {n}")
        self.n = n
        self._shared = shared
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self.n > 1:
            self._pool = ProcessPoolExecutor(
                self.n,
                mp_context=mp.get_context("spawn"),  # a fork would copy torch's locked threads
                initializer=_install,
                initargs=(self._shared,),
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(
        self, function: Callable[[Any, Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Apply a function to the shared object and each item.

        Args:
            function: Defined at the top of a module, so that other processes find it by name.
            items: Read lazily, two for each process ahead of the results.

        Raises:
            ChildProcessError: If a process dies.
        """
        if self._pool is None:
            for item in items:
                yield function(self._shared, item)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(_call, function, item))
                if len(waiting) >= 2 * self.n:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"one of {self.n} processes died, perhaps for want of memory: fewer need less"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _install(shared: Any) -> None:
    """Keep the shared object; leave Ctrl-C to the process that started this one."""
    global _shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared = shared


def _call(function: Callable[[Any, Item], Result], item: Item) -> Result:
    return function(_shared, item)
