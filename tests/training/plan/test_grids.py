"""Products on squares and cubes of processes, played with every message counted."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from llmlib.training.parallel.tensors.grids import (
    cost_on_a_cube,
    cost_on_a_row,
    cost_on_squares,
)

Place = tuple[int, ...]


class Post:
    """Carries tensors between places that are called processes, and counts their numbers."""

    def __init__(self) -> None:
        self.sent = 0

    def carry(self, tensor: Tensor, source: Place, to: Place) -> Tensor:
        self.sent += tensor.numel() * (source != to)
        return tensor.clone()

    def gather(self, parts: dict[Place, Tensor], to: Place) -> Tensor:
        return torch.cat([self.carry(part, source, to) for source, part in sorted(parts.items())])

    def collect(self, parts: dict[Place, Tensor], to: Place) -> Tensor:
        return torch.stack([self.carry(p, source, to) for source, p in parts.items()]).sum(0)

    def all_reduce(self, parts: dict[Place, Tensor]) -> dict[Place, Tensor]:
        """A reduce-scatter by direct messages and an all-gather: as many numbers as a ring."""
        places = sorted(parts)
        pieces = {p: parts[p].flatten().tensor_split(len(places)) for p in places}
        own = {
            to: self.collect({p: pieces[p][i] for p in places}, to) for i, to in enumerate(places)
        }
        return {to: self.gather(own, to).view_as(parts[to]) for to in places}


def blocks(matrix: Tensor, rows: int, columns: int) -> list[list[Tensor]]:
    return [list(band.tensor_split(columns, dim=1)) for band in matrix.tensor_split(rows)]


def joined(grid: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.cat([torch.cat(list(row), dim=1) for row in grid])


def matrices(a: int, b: int, c: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(a + b + c)
    x, w, grad = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((a, b), (b, c), (a, c))
    )
    return x, w, grad


Played = tuple[Tensor, Tensor, Tensor, int]


def play_squares(q: int, d: int, x: Tensor, w: Tensor, grad: Tensor) -> Played:
    """X's rows are cut over d squares, the same block of W lies on each."""
    post, n = Post(), range(q)
    layers = [blocks(part, q, q) for part in x.tensor_split(d)]
    upstream = [blocks(part, q, q) for part in grad.tensor_split(d)]
    words = blocks(w, q, q)
    ys, dxs, dws = [], [], {}
    for z, (own, back) in enumerate(zip(layers, upstream, strict=True)):
        y = [[torch.zeros_like(back[i][j]) for j in n] for i in n]
        for i, j, k in product(n, n, n):
            left = post.carry(own[i][k], (i, k, z), (i, j, z))
            y[i][j] += left @ post.carry(words[k][j], (k, j, z), (i, j, z))
        ys.append(joined(y))
        dx = [[torch.zeros_like(own[i][k]) for k in n] for i in n]
        for i, k in product(n, n):
            parts = {
                (i, j, z): back[i][j] @ post.carry(words[k][j], (k, j, z), (i, j, z)).T for j in n
            }
            dx[i][k] = post.collect(parts, (i, k, z))
        dxs.append(joined(dx))
        for k, j in product(n, n):
            parts = {
                (i, j, z): post.carry(own[i][k], (i, k, z), (i, j, z)).T @ back[i][j] for i in n
            }
            dws[k, j, z] = post.collect(parts, (k, j, z))
    for k, j in product(n, n):
        dws |= post.all_reduce({(k, j, z): dws[k, j, z] for z in range(d)})
    dw = joined([[dws[k, j, d - 1] for j in n] for k in n])
    return torch.cat(ys), torch.cat(dxs), dw, post.sent


def play_cube(side: int, x: Tensor, w: Tensor, grad: Tensor) -> Played:
    """Each block is cut by rows over the processes that multiply with it."""
    post, n = Post(), range(side)
    xs, ws, gs = (blocks(matrix, side, side) for matrix in (x, w, grad))

    def gathered(block: Tensor, group: list[Place], to: Place) -> Tensor:
        return post.gather(dict(zip(group, block.tensor_split(side), strict=True)), to)

    def scattered(parts: dict[Place, Tensor]) -> Tensor:
        pieces = {place: part.tensor_split(side) for place, part in parts.items()}
        own = [post.collect({p: pieces[p][i] for p in parts}, to) for i, to in enumerate(parts)]
        return torch.cat(own)

    def forward_inputs(i: int, j: int, k: int) -> tuple[Tensor, Tensor]:
        along_j, along_i = [(i, o, k) for o in n], [(o, j, k) for o in n]
        return gathered(xs[i][k], along_j, (i, j, k)), gathered(ws[k][j], along_i, (i, j, k))

    def product_at(i: int, j: int, k: int) -> Tensor:
        left, right = forward_inputs(i, j, k)
        return left @ right

    y = [[scattered({(i, j, k): product_at(i, j, k) for k in n}) for j in n] for i in n]
    dx, dw = {}, {}
    for i, j, k in product(n, n, n):
        left, right = forward_inputs(i, j, k)
        back = gathered(gs[i][j], [(i, j, o) for o in n], (i, j, k))
        dx[i, j, k], dw[i, j, k] = back @ right.T, left.T @ back
    grad_x = [[scattered({(i, j, k): dx[i, j, k] for j in n}) for k in n] for i in n]
    grad_w = [[scattered({(i, j, k): dw[i, j, k] for i in n}) for j in n] for k in n]
    return joined(y), joined(grad_x), joined(grad_w), post.sent


def play_row(processes: int, x: Tensor, w: Tensor, grad: Tensor) -> Played:
    post, n = Post(), range(processes)
    columns = w.tensor_split(processes, dim=1)
    back = grad.tensor_split(processes, dim=1)
    sums = post.all_reduce({(j,): back[j] @ columns[j].T for j in n})
    y = torch.cat([x @ column for column in columns], dim=1)
    return y, sums[processes - 1,], torch.cat([x.T @ g for g in back], dim=1), post.sent


PLAYED: dict[str, tuple[Callable[..., Played], int]] = {
    "a row of three": (
        lambda *m: play_row(3, *m), cost_on_a_row(3, 24, 36, 12).sent,
    ),
    "a square": (
        lambda *m: play_squares(2, 1, *m), cost_on_squares(2, 24, 36, 12).sent,
    ),
    "two squares": (
        lambda *m: play_squares(2, 2, *m), cost_on_squares(2, 24, 36, 12, depth=2).sent,
    ),
    "two squares of three": (
        lambda *m: play_squares(3, 2, *m), cost_on_squares(3, 24, 36, 12, depth=2).sent,
    ),
    "a cube": (lambda *m: play_cube(2, *m), cost_on_a_cube(2, 24, 36, 12).sent),
    "a cube of three": (lambda *m: play_cube(3, *m), cost_on_a_cube(3, 24, 36, 12).sent),
}  # fmt: skip


@pytest.mark.covers("train.tensor-nd")
@pytest.mark.parametrize("kind", PLAYED)
def test_played_message_by_message_the_product_is_right_and_the_count_the_formula(
    kind: str,
) -> None:
    play, formula = PLAYED[kind]
    x, w, grad = matrices(24, 36, 12)
    y, dx, dw, sent = play(x, w, grad)
    for found, expected in ((y, x @ w), (dx, grad @ w.T), (dw, x.T @ grad)):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert sent == formula


def test_each_way_at_one_process_sends_nothing_and_holds_all() -> None:
    sizes = (7, 5, 11)
    costs = (cost_on_a_row(1, *sizes), cost_on_squares(1, *sizes), cost_on_a_cube(1, *sizes))
    for cost in costs:
        assert (cost.processes, cost.sent, cost.held) == (1, 0, 7 * 5 + 5 * 11 + 7 * 11)
    with pytest.raises(ValueError, match="at least 1"):
        cost_on_a_cube(0, *sizes)


@pytest.mark.covers("train.tensor-nd")
def test_who_sends_least_on_64_processes_depends_on_the_rows() -> None:
    """GPT-3's first feed-forward product, of 4,096 rows and of 16 times as many."""
    few, many = (
        {
            "row": cost_on_a_row(64, rows, 12_288, 49_152),
            "square": cost_on_squares(8, rows, 12_288, 49_152),
            "stack": cost_on_squares(4, rows, 12_288, 49_152, depth=4),
            "cube": cost_on_a_cube(4, rows, 12_288, 49_152),
        }
        for rows in (4096, 65_536)
    )
    assert {cost.processes for cost in few.values()} == {64}
    assert sorted(few, key=lambda kind: few[kind].sent) == ["row", "cube", "square", "stack"]
    assert sorted(many, key=lambda kind: many[kind].sent) == ["square", "cube", "stack", "row"]
    for costs in (few, many):  # a row keeps X whole everywhere, a stack W once a square
        assert costs["cube"].held == costs["square"].held < costs["stack"].held < costs["row"].held
