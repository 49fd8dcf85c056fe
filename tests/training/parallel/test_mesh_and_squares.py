"""Grids of processes, and products whose matrices lie in squares on them."""

from typing import Any

import pytest
import torch

from llmlib.core.processes.launcher import launch
from llmlib.training.parallel.mesh import Mesh
from llmlib.training.parallel.tensors.squares import linear_2d

ROWS, INPUTS, OUTPUTS = 7, 5, 11


def matrices() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = ((2 * ROWS, 2 * INPUTS), (2 * INPUTS, 2 * OUTPUTS), (2 * ROWS, 2 * OUTPUTS))
    x, weight, grad = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    )
    return x, weight, grad


def block(matrix: torch.Tensor, row: int, column: int) -> torch.Tensor:
    return matrix.chunk(2)[row].chunk(2, dim=1)[column].clone()


def on_a_square(rank: int, world_size: int) -> dict[str, Any]:
    mesh = Mesh({"row": 2, "column": 2})
    comms = mesh.communicators()
    place = mesh.place(rank)
    x, weight, grad = (block(matrix, **place) for matrix in matrices())
    x.requires_grad_()
    weight.requires_grad_()
    # A row of the square is who differs in the column, and the other way round.
    y = linear_2d(x, weight, comms["column"], comms["row"])
    y.backward(grad)
    sent = sum(comm.sent_bytes for comm in comms.values())
    return {"place": place, "y": y.detach(), "x": x.grad, "weight": weight.grad, "sent": sent}


@pytest.mark.covers("train.tensor-nd")
def test_squares_equal_one_process() -> None:
    x, weight, grad = matrices()
    x.requires_grad_()
    weight.requires_grad_()
    y = x @ weight
    y.backward(grad)
    whole = {"y": y.detach(), "x": x.grad, "weight": weight.grad}
    runs = launch(on_a_square, 4, timeout_s=240)
    for run in runs:
        for name, matrix in whole.items():
            assert matrix is not None
            torch.testing.assert_close(
                run[name], block(matrix, **run["place"]), rtol=1e-12, atol=1e-13
            )
    # Every block of X and W goes to one other, forward and again backward; those of the gradients
    # of X and W are collected from one other.
    numbers = 3 * (4 * ROWS * INPUTS + 4 * INPUTS * OUTPUTS)
    assert sum(run["sent"] for run in runs) == 8 * numbers


@pytest.mark.covers("train.3d")
def test_bloom_lay_on_eight_by_twelve_by_four() -> None:
    mesh = Mesh({"data": 8, "pipeline": 12, "tensor": 4})
    assert mesh.size == 384
    assert [mesh.rank(mesh.place(rank)) for rank in range(384)] == list(range(384))
    for axis, length in mesh.axes.items():
        groups = mesh.groups(axis)
        assert len(groups) == 384 // length and {len(group) for group in groups} == {length}
        assert sorted(rank for group in groups for rank in group) == list(range(384))
    # Tensor groups stay within a node of eight, data groups never meet in one.
    assert all(len({rank // 8 for rank in group}) == 1 for group in mesh.groups("tensor"))
    assert all(len({rank // 8 for rank in group}) == 8 for group in mesh.groups("data"))
    with pytest.raises(ValueError, match="one process or more"):
        Mesh({"data": 0})
