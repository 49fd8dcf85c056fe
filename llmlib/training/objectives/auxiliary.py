"""Losses that are learned beside the text, told apart from its nats."""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor

_listeners: list[list[Tensor]] = []


def add_auxiliary(loss: Float[Tensor, ""], auxiliary: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Add what is learned besides, as a load-balancing or a z-loss, its weight included.

    The sum is no longer in nats a target. Who reports it listens by `auxiliary_losses`.
    """
    for heard in _listeners:
        heard.append(auxiliary.detach())
    return loss + auxiliary


@contextmanager
def auxiliary_losses() -> Iterator[list[Tensor]]:
    """Yield a list of all that `add_auxiliary` adds inside the block, without gradients.

    Example:
        >>> import torch
        >>> with auxiliary_losses() as heard:
        ...     total = add_auxiliary(torch.tensor(3.0), torch.tensor(0.25))
        >>> total, heard
        (tensor(3.2500), [tensor(0.2500)])
    """
    heard: list[Tensor] = []
    _listeners.append(heard)
    try:
        yield heard
    finally:
        _listeners.remove(heard)
