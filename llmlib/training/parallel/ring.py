"""Collective operations, written out as rings of neighbours and as direct exchanges."""

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from llmlib.training.parallel.communicator import Communicator


def ring_reduce_scatter(comm: Communicator, flat: Shaped[Tensor, " n"]) -> Shaped[Tensor, " part"]:
    r"""Add a vector up over the ring; each process ends with the sum of its own part.

    The vector is cut into P parts. In each of P - 1 rounds every process sends the part that it
    has just added to, and adds what comes to the part before it: a part travels once round the
    ring and collects. A process sends $\tfrac{P-1}{P}$ of the vector.

    Args:
        flat: Overwritten: all parts but the own one hold sums of some processes afterwards.

    Returns:
        A view of this rank's part (`tensor_split`'s).

    References:
        Patarasuk and Yuan (2009), Bandwidth Optimal All-reduce Algorithms for Clusters of
        Workstations, section 3.
    """
    parts = flat.tensor_split(comm.size)
    for step in range(1, comm.size):
        gives, takes = (comm.rank - step) % comm.size, (comm.rank - step - 1) % comm.size
        came = torch.empty_like(parts[takes])
        comm.exchange(
            "reduce-scatter", {comm.next: parts[gives].contiguous()}, {comm.previous: came}
        )
        parts[takes].add_(came)
    return parts[comm.rank]


def ring_all_gather(comm: Communicator, flat: Shaped[Tensor, " n"]) -> None:
    r"""Fill a vector whose own part is right with the others' parts, in place.

    In each of P - 1 rounds every process passes on the part that came last. A process sends
    $\tfrac{P-1}{P}$ of the vector.
    """
    parts = flat.tensor_split(comm.size)
    for step in range(comm.size - 1):
        gives, takes = (comm.rank - step) % comm.size, (comm.rank - step - 1) % comm.size
        comm.exchange("all-gather", {comm.next: parts[gives]}, {comm.previous: parts[takes]})


def ring_all_reduce(comm: Communicator, flat: Shaped[Tensor, " n"]) -> None:
    r"""Add a vector up over all processes, in place: reduce-scatter, then all-gather.

    A process sends $2\tfrac{P-1}{P}$ of the vector, however many there are; every process has the
    same bits, because each part was added up once, in one order.

    References:
        Patarasuk and Yuan (2009), section 3.
    """
    ring_reduce_scatter(comm, flat)
    ring_all_gather(comm, flat)


def sum_together(comm: Communicator, tensors: Sequence[Tensor]) -> None:
    """Add each of several tensors up over all processes, in place, by one ring for all of them."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    ring_all_reduce(comm, flat)
    pieces = flat.split([tensor.numel() for tensor in tensors])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.copy_(piece.view_as(tensor))


def all_to_all(
    comm: Communicator, parts: Sequence[Tensor], shapes: Sequence[torch.Size]
) -> list[Tensor]:
    """Send part r to rank r, and return what each rank sent here, in their order.

    Args:
        parts: One for each rank; the own one is copied.
        shapes: Shapes of what comes from each rank.
    """
    came = [parts[0].new_empty(shape) for shape in shapes]
    others = [rank for rank in range(comm.size) if rank != comm.rank]
    comm.exchange(
        "all-to-all",
        {rank: parts[rank].contiguous() for rank in others if parts[rank].numel()},
        {rank: came[rank] for rank in others if came[rank].numel()},
    )
    came[comm.rank].copy_(parts[comm.rank])
    return came
