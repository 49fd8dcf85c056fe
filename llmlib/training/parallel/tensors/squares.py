"""Two-dimensional tensor parallelism: every matrix in blocks, on a square of processes."""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, autograd
from torch.autograd.function import once_differentiable

from llmlib.training.parallel.communicator import Communicator


def linear_2d(
    x: Float[Tensor, "rows inputs"],
    weight: Float[Tensor, "inputs outputs"],
    along_row: Communicator,
    along_column: Communicator,
) -> Float[Tensor, "rows outputs"]:
    r"""Multiply matrices that lie in q x q blocks, one block of each a process (SUMMA).

    $Y_{ij} = \sum_l X_{il} W_{lj}$: in round l the process in column l sends its block of X along
    its row, the one in row l its block of W along its column. Backward, $\nabla X_{il} = \sum_j
    \nabla Y_{ij} W_{lj}^\top$ is collected along rows and $\nabla W_{lj} = \sum_i X_{il}^\top
    \nabla Y_{ij}$ along columns. Unlike with columns or rows alone, no process ever keeps more than
    1/P of any matrix, activations included.

    Args:
        along_row: The processes of this row of the square, in order; q of them.
        along_column: Those of this column.

    References:
        Van de Geijn and Watts (1997), SUMMA: Scalable Universal Matrix Multiplication Algorithm; Xu
        et al. (2021), An Efficient 2D Method for Training Super-Large Deep Learning Models,
        algorithms 1 to 3.
    """
    if along_row.size != along_column.size:
        raise ValueError(f"{along_row.size} x {along_column.size} processes are no square")
    return cast("Tensor", _Summa.apply(x, weight, along_row, along_column))


class _Summa(autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, row: Communicator, column: Communicator
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.row, ctx.column = row, column
        y = x.new_zeros(len(x), weight.shape[1])
        for step in range(row.size):
            y += _sent(x, step, row) @ _sent(weight, step, column)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        row, column = ctx.row, ctx.column
        grad_x, grad_weight = torch.empty_like(x), torch.empty_like(weight)
        for step in range(row.size):
            _collected(grad @ _sent(weight, step, column).T, step, row, grad_x)
            _collected(_sent(x, step, row).T @ grad, step, column, grad_weight)
        return grad_x, grad_weight, None, None


def _sent(block: Tensor, root: int, comm: Communicator) -> Tensor:
    """Return the block of one process, which sends it to all others of the group."""
    if comm.rank == root:
        others = [rank for rank in range(comm.size) if rank != root]
        comm.exchange("blocks", dict.fromkeys(others, block.contiguous()), {})
        return block
    came = torch.empty_like(block)
    comm.exchange("blocks", {}, {root: came})
    return came


def _collected(part: Tensor, root: int, comm: Communicator, into: Tensor) -> None:
    """Add everybody's part up at one process, in the order of ranks."""
    if comm.rank != root:
        comm.exchange("blocks", {root: part.contiguous()}, {})
        return
    came = {rank: torch.empty_like(part) for rank in range(comm.size) if rank != root}
    comm.exchange("blocks", {}, came)
    into.copy_(sum((came.get(rank, part) for rank in range(1, comm.size)), came.get(0, part)))
