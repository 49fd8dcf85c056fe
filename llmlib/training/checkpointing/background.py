"""Checkpoints written by all processes, each its own pieces, while the training goes on."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn

from llmlib.training.checkpointing.checkpoint import (
    Checkpoint,
    finish,
    make_empty,
    on_all_processes,
    places,
    save,
    write_files,
)
from llmlib.training.checkpointing.files import remove_old
from llmlib.training.checkpointing.named_state import AnyOptimizer
from llmlib.training.checkpointing.pieces import own_pieces, write_pieces
from llmlib.training.distributed import rank, world_size


class ForegroundSaver:
    """Saves by the first process alone, whole, while all wait: see `checkpoint.save`."""

    save = staticmethod(save)

    def wait(self) -> None:
        """Return at once: what was saved is on the disk."""


class BackgroundSaver:
    """Saves a run without holding it up: the steps wait for a copy in memory, not for the disk.

    Each process copies what it holds; a thread writes the copies and, once every process has
    written, the first gives the folder its name. Until then it does not count as a checkpoint. A
    second save waits for the first.

    References:
        Mohan et al. (2021), CheckFreq (a snapshot, then writing it beside the next steps).
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._group: dist.ProcessGroup | None = None
        self._writing: Future[None] | None = None
        self._places = Path(), Path()

    def save(
        self,
        folder: Path,
        checkpoint: Checkpoint,
        *,
        model: nn.Module,
        optimizer: AnyOptimizer,
        keep: int = 2,
    ) -> Path:
        """Begin to write a checkpoint; every process must call this. Return what it will be called.

        Raises:
            OSError: When this or the last one could not be written; earlier ones are as they were.
        """
        self.wait()
        if world_size() > 1 and self._group is None:
            # The thread's messages must not get between those of the training.
            group = dist.new_group(backend="gloo")
            assert isinstance(group, dist.ProcessGroup)
            self._group = group
        self._places = final, partial = places(folder, checkpoint)
        on_all_processes(lambda: make_empty(partial), final, partial)
        on_all_processes(lambda: write_files(partial, checkpoint, {}), final, partial)
        pieces = own_pieces(model, optimizer)
        job = (partial, final, checkpoint, pieces, self._group, keep)
        if world_size() > 1:
            self._writing = self._thread.submit(_write, *job)
        else:
            on_all_processes(lambda: _write(*job), final, partial)
        return final

    def wait(self) -> None:
        """Wait until the last checkpoint is whole; every process must call this.

        Raises:
            OSError: When it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            on_all_processes(writing.result, *self._places)


def _write(
    partial: Path,
    final: Path,
    checkpoint: Checkpoint,
    pieces: dict[str, Any],
    group: dist.ProcessGroup | None,
    keep: int,
) -> None:
    write_pieces(partial, pieces, group)
    finish(partial, final, checkpoint, {})
    if rank() == 0:
        remove_old(final.parent, keep)
