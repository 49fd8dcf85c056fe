"""What a model learns from at once: a dictionary of tensors that all have one row an example."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Batch = dict[str, Tensor]
"""Names and tensors, as an objective reads them. The names that several objectives share:

- `inputs`: token ids that a decoder reads, [B, T];
- `targets`: what it is to predict at each position, or `IGNORE`, [B, T];
- `documents`: number of the text that each input belongs to, [B, T];
- `prefix_lengths`: first tokens of each row that see each other, [B];
- `encoder_inputs` [B, S], `encoder_lengths` [B], `decoder_inputs` [B, T]: for an encoder-decoder.
"""

LossFn = Callable[[Any, Batch], Tensor]
"""`loss_fn(model, batch)`, a batch's mean loss in nats a target."""

IGNORE = -100
"""Target of a position that does not count, as in `torch.nn.functional.cross_entropy`."""


@runtime_checkable
class Batches(Protocol):
    """An endless source of batches that can say its place and return to it."""

    def __next__(self) -> Batch:
        """Return the next micro-batch of this process."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the place as JSON values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Go to a place."""
        ...


def count_targets(batch: Batch) -> int:
    """Return how much a batch counts: its targets that count, or its rows where it has none.

    Raises:
        ValueError: If the batch names nothing.

    Example:
        >>> import torch
        >>> count_targets({"targets": torch.tensor([[5, IGNORE], [7, 2]])})
        3
    """
    targets = batch.get("targets")
    if not batch:
        raise ValueError("the batch is empty: give it a tensor with a row an example")
    if targets is None:
        return len(next(iter(batch.values())))
    return int((targets != IGNORE).sum())
