"""Several processes that talk over gloo: distributed code on one machine, for tests and lessons."""

from __future__ import annotations

import multiprocessing as mp
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


class RankError(RuntimeError):
    """A rank failed; the message holds its traceback."""


def launch(
    fn: Callable[..., Any],
    world_size: int,
    *args: Any,
    timeout_s: int | float = 120.0,
    threads: int = 1,
) -> list[Any]:
    """Run a function in several fresh processes that form a gloo group, and return each result.

    Each process has initialised `torch.distributed` before `fn` starts. The first rank to fail ends
    all of them. The group meets through a file, so two launches at once cannot take each other's
    port.

    Args:
        fn: Called as `fn(rank, world_size, *args)`. It must be defined at the top of a module that
            can be imported: the processes start from nothing and look it up by name.
        threads: Threads each rank computes with.

    Raises:
        ValueError: If `fn` cannot be found by name from another process, or `world_size` < 1.
        TimeoutError: If the ranks take longer than `timeout_s`.
        RankError: If a rank raises or dies; it carries that rank's traceback.
    """
    _check_importable(fn)
    if world_size < 1:
        raise ValueError(f"launch at least one process, not {world_size}")
    context = mp.get_context("spawn")
    deadline = time.monotonic() + timeout_s
    processes: list[BaseProcess] = []
    connections: list[Any] = []  # a Connection, or a PipeConnection on Windows
    with tempfile.TemporaryDirectory(prefix="llmlib-launch-") as folder:
        try:
            for rank in range(world_size):
                ours, theirs = context.Pipe()
                job = (fn, rank, world_size, args, str(Path(folder, "store")), timeout_s, threads)
                process = context.Process(target=_worker, args=(theirs, *job), daemon=True)
                process.start()
                theirs.close()  # so that a rank's death reads as the end of its pipe
                processes.append(process)
                connections.append(ours)
            return _collect(processes, connections, deadline, timeout_s)
        finally:
            _stop(processes)
            for connection in connections:
                connection.close()


def _check_importable(fn: Callable[..., Any]) -> None:
    """Refuse a function that a fresh process could not find."""
    name = getattr(fn, "__qualname__", "")
    main = sys.modules.get("__main__")
    in_notebook = getattr(fn, "__module__", None) == "__main__" and not hasattr(main, "__file__")
    if not name or "<" in name or in_notebook:
        raise ValueError(
            f"{name or fn!r} cannot be found by another process: "
            "define it at the top of a module and import it from there"
        )


def _collect(
    processes: list[BaseProcess], connections: list[Any], deadline: float, timeout_s: int | float
) -> list[Any]:
    """Wait for each rank's answer."""
    world_size = len(processes)
    results: dict[int, Any] = {}
    while len(results) < world_size:
        waiting = {connections[r]: r for r in range(world_size) if r not in results}
        ready = wait(list(waiting), timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            missing = ", ".join(str(rank) for rank in waiting.values())
            raise TimeoutError(f"no answer from rank {missing} after {timeout_s:g} s")
        for connection in (c for c in waiting if c in ready):
            rank = waiting[connection]
            try:
                succeeded, value = connection.recv()
            except (EOFError, ConnectionResetError):
                processes[rank].join(1.0)
                raise RankError(
                    f"rank {rank} of {world_size} died without a word "
                    f"(exit code {processes[rank].exitcode})"
                ) from None
            if not succeeded:
                raise RankError(f"rank {rank} of {world_size} failed:\n{value}")
            results[rank] = value
    return [results[rank] for rank in range(world_size)]


def _stop(processes: list[BaseProcess]) -> None:
    """End every process, at once: by now each has answered or is not worth waiting for."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
        process.close()


def _worker(
    connection: Any,
    fn: Callable[..., Any],
    rank: int,
    world_size: int,
    args: tuple[Any, ...],
    store: str,
    timeout_s: int | float,
    threads: int,
) -> None:
    """Join the group, run the function and send its result or its traceback to the parent."""
    try:
        # gloo otherwise looks the machine's name up, which fails where there is no network.
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        import torch
        import torch.distributed as dist

        torch.set_num_threads(threads)
        dist.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout_s),
        )
        connection.send((True, fn(rank, world_size, *args)))
    except BaseException:  # KeyboardInterrupt and SystemExit too: the parent must hear of each
        connection.send((False, traceback.format_exc()))
    # Stay until the parent ends us. It may still be fetching tensors from this process's memory,
    # and a peer must not see the group break before the parent has read the first traceback.
    time.sleep(timeout_s)
