"""Checks of chapters/04_architecture/05_attention_variants.ipynb: merged parts and paged blocks."""

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "04_architecture/05_attention_variants"

# Two halves of the keys


def _merge_parts(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    weights = torch.stack((first_lse, second_lse)).softmax(dim=0).unsqueeze(-1)
    return weights[0] * first + weights[1] * second


def _halves(n_keys: int, cut: int, scale: int | float = 1) -> list[Tensor]:
    scores = scale * normal(3, n_keys)
    values = normal(n_keys, 4, seed=1)
    parts = []
    for some in (slice(0, cut), slice(cut, n_keys)):
        parts += [scores[:, some].softmax(-1) @ values[some], scores[:, some].logsumexp(-1)]
    return parts


def _sum(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    return first_lse.exp()[:, None] * first + second_lse.exp()[:, None] * second


merge = Exercise(
    "merge_parts",
    title="attention to two halves of the keys becomes attention to all",
    points=3,
    reference=_merge_parts,
    hints=(
        "Each half is a mean with weights that sum to 1. Which share of the whole sum had it?",
        "The sum of a half is exp(lse). Its share is exp(lse) over the sum of both.",
        "That is a softmax over the two log-sum-exps: subtract the larger before exp.",
    ),
    cases={
        "3 queries, 8 keys cut in the middle": args(*_halves(8, 4)),
        "one key on one side, ten on the other": args(*_halves(11, 1)),
        "scores in the hundreds": args(*_halves(11, 4, scale=300)),
    },
    mistakes={
        "you took the mean of the halves; "
        "the one with the larger scores must count more": lambda a, la, b, lb: (a + b) / 2,
        "you weighted by the log-sum-exp itself; "
        "its exponential is the sum that a half stands for": (
            lambda a, la, b, lb: (la[:, None] * a + lb[:, None] * b) / (la + lb)[:, None]
        ),
        "you added up what each half stands for; divide by the sum of both": _sum,
        "the halves have each other's shares": lambda a, la, b, lb: _merge_parts(a, lb, b, la),
        "exp overflows: subtract the larger of the two log-sum-exps first, "
        "or use softmax": lambda a, la, b, lb: _sum(a, la, b, lb) / (la.exp() + lb.exp())[:, None],
    },
)


# A block to write into

Place = tuple[list[int], list[int], int | None]


def _place_to_write(table: list[int], uses: list[int], length: int, block_size: int) -> Place:
    table, uses = list(table), list(uses)
    place = length // block_size
    is_new = place == len(table)
    if not is_new and uses[table[place]] == 1:
        return table, uses, None
    free = uses.index(0)
    uses[free] = 1
    if is_new:
        return [*table, free], uses, None
    copied, table[place] = table[place], free
    uses[copied] -= 1
    return table, uses, copied


def _never_copies(table: list[int], uses: list[int], length: int, block_size: int) -> Place:
    if length // block_size < len(table):
        return list(table), list(uses), None
    return _place_to_write(table, uses, length, block_size)


def _leaks(table: list[int], uses: list[int], length: int, block_size: int) -> Place:
    table, uses, copied = _place_to_write(table, uses, length, block_size)
    if copied is not None:
        uses[copied] += 1
    return table, uses, copied


def _always_copies(table: list[int], uses: list[int], length: int, block_size: int) -> Place:
    if length // block_size == len(table):
        return _place_to_write(table, uses, length, block_size)
    held = [use + (block == table[length // block_size]) for block, use in enumerate(uses)]
    table, uses, copied = _place_to_write(table, held, length, block_size)
    uses[copied or 0] -= 1
    return table, uses, copied


def _copies_all(table: list[int], uses: list[int], length: int, block_size: int) -> Place:
    table, uses, copied = _place_to_write(table, uses, length, block_size)
    for number, block in enumerate(table):
        if uses[block] > 1 and 0 in uses:
            free = uses.index(0)
            uses[free], copied = 1, block
            uses[block] -= 1
            table[number] = free
    return table, uses, copied


place = Exercise(
    "place_to_write",
    title="a block to write the next token into, with copy on write",
    points=4,
    reference=_place_to_write,
    hints=(
        "Token number `length` belongs to block number `length // block_size` of the row.",
        "Three cases: the table ends before it; the row holds it alone; others hold it too.",
        "Only in the third case is something copied: the row takes a free block (`uses.index(0)`) "
        "in its table's place, and the old block has one use less.",
    ),
    cases={
        "a row's own block with room": args([2, 0], [1, 0, 1, 0], 6, 4),
        "the last block is full: a new one": args([2, 0], [1, 0, 1, 0], 8, 4),
        "the first token of a text": args([], [0, 0, 0], 0, 4),
        "a half-filled block that two rows hold": args([2, 0], [2, 0, 2, 0], 6, 4),
        "two shared blocks, both full: they stay shared": args([2, 0], [2, 1, 2, 0], 8, 4),
    },
    mistakes={
        "you wrote into a block that another row holds: its text would change too": _never_copies,
        "the copied block still counts this row: it has one use less, or it is never freed": _leaks,
        "you copied a block that this row holds alone: write in place": _always_copies,
        "the block is chosen one token too late: with blocks of 4, token 8 is the first of the "
        "third": (
            lambda table, uses, length, size: _place_to_write(table, uses, max(0, length - 1), size)
        ),
        "you copied the full shared blocks too; only one that is written needs a copy": _copies_all,
    },
)
