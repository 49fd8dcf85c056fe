"""Shuffled windows of a token stream, the same again after any interruption.

What a batch holds depends on the stream, the seed, the epoch and the batch's number, and on
nothing else: no state of a random generator has to be saved, and any number of processes cut the
same batch among themselves.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from llmlib.core.batch import Batch
from llmlib.data.stream.packing import TokenSource, document_ids


class TokenLoader(Iterator[Batch]):
    """An endless iterator over batches of next-token examples.

    In every epoch the stream is cut into windows of `seq_len` tokens from a fresh random offset,
    so that a document is not always cut at the same places; the windows are shuffled, and those
    that do not fill a batch are left out. The targets are the inputs one token later.

    Args:
        batch_size: Windows in a batch, over all ranks together.
        rank: Which slice of `batch_size // world_size` windows of each batch to return, from 0.
        documents: Say in each batch, under `documents`, which document of the stream each input
            belongs to, so that attention can be kept within documents.

    Attributes:
        epoch: Epoch of the next batch, from 0.
        batch: Its number within the epoch, from 0.

    Raises:
        ValueError: If the stream holds fewer tokens than one batch needs, or the batch cannot be
            cut into `world_size` equal shares.

    Example:
        >>> from llmlib.data.stream.packing import pack
        >>> loader = TokenLoader(pack([range(1, 30)], 0), batch_size=2, seq_len=5, seed=0)
        >>> batch = next(loader)
        >>> batch["inputs"].shape, bool((batch["targets"][:, :-1] == batch["inputs"][:, 1:]).all())
        (torch.Size([2, 5]), True)
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        batch_size: int,
        seq_len: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        documents: bool = False,
    ):
        if batch_size < 1 or seq_len < 1 or seed < 0:
            raise ValueError(
                f"batch_size={batch_size} and seq_len={seq_len} must be at least 1, "
                f"seed={seed} at least 0"
            )
        if not 0 <= rank < world_size or batch_size % world_size:
            raise ValueError(
                f"batch_size={batch_size} must be a multiple of world_size={world_size}, and "
                f"rank={rank} below it"
            )
        needed = batch_size * seq_len + 1
        if source.n_tokens < needed:
            raise ValueError(
                f"one batch of {batch_size} windows of {seq_len} tokens needs {needed} tokens; the "
                f"stream holds {source.n_tokens}. Use more text, or a smaller batch_size or "
                "seq_len."
            )
        self._source = source
        self._config = {
            "n_tokens": source.n_tokens,
            "batch_size": batch_size,
            "seq_len": seq_len,
            "seed": seed,
        }
        if documents:
            self._config["documents"] = True
        self._seq_len = seq_len
        self._batch_size = batch_size
        self._share = batch_size // world_size
        self._rank = rank
        self._begin_epoch(0)

    def _begin_epoch(self, epoch: int, batch: int = 0) -> None:
        generator = np.random.default_rng([self._config["seed"], epoch])
        spare = self._source.n_tokens - 1 - self._batch_size * self._seq_len
        offset = int(generator.integers(0, min(self._seq_len - 1, spare) + 1))
        n_windows = (self._source.n_tokens - 1 - offset) // self._seq_len
        self._begins = offset + self._seq_len * generator.permutation(n_windows)
        self.epoch = epoch
        self.batch = batch

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches in the epoch of the next batch; its offset may change it by one."""
        return len(self._begins) // self._batch_size

    @override
    def __next__(self) -> Batch:
        first = self.batch * self._batch_size + self._rank * self._share
        begins = self._begins[first : first + self._share].tolist()
        self.batch += 1
        if self.batch == self.batches_per_epoch:
            self._begin_epoch(self.epoch + 1)
        rows = [self._source.read(at, at + self._seq_len + 1) for at in begins]
        windows = torch.from_numpy(np.stack(rows).astype(np.int64))  # [B, T+1]
        batch = {"inputs": windows[:, :-1].contiguous(), "targets": windows[:, 1:].contiguous()}
        if "documents" in self._config:
            numbers = [document_ids(self._source, at, at + self._seq_len) for at in begins]
            batch["documents"] = torch.from_numpy(np.stack(numbers))
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to go on with the next batch, for any number of ranks."""
        return {**self._config, "epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another loader of the same stream and settings stood.

        Raises:
            ValueError: If the stream or the settings differ, which would change the batches, or the
                epoch has no such batch.
        """
        theirs = {name: value for name, value in state.items() if name not in ("epoch", "batch")}
        for name in {**self._config, **theirs}:
            ours, saved = self._config.get(name), theirs.get(name)
            if saved != ours:
                raise ValueError(
                    f"cannot continue: {name} was {saved} and is {ours}; the batches would not be "
                    "the same. Use the settings of the saved run, or start anew."
                )
        place = int(state["batch"])
        self._begin_epoch(int(state["epoch"]), place)
        if not 0 <= place < self.batches_per_epoch:
            raise ValueError(
                f"cannot continue: epoch {self.epoch} has {self.batches_per_epoch} batches, and "
                f"none of number {place}; the saved state is damaged"
            )
