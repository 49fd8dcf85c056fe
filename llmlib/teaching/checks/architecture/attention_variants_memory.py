"""Checks of chapters/04_architecture/05_attention_variants.ipynb: merged parts and paged blocks."""

from typing import Any

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args, expect

NOTEBOOK = "04_architecture/05_attention_variants"


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Two halves of the keys


def _merge_parts(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    weights = torch.stack((first_lse, second_lse)).softmax(dim=0).unsqueeze(-1)
    return weights[0] * first + weights[1] * second


def _halves(n_keys: int, cut: int, scale: int | float = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scores = scale * _random(3, n_keys)
    values = _random(n_keys, 4, seed=1)
    parts = []
    for some in (slice(0, cut), slice(cut, n_keys)):
        parts += [scores[:, some].softmax(-1) @ values[some], scores[:, some].logsumexp(-1)]
    return parts[0], parts[1], parts[2], parts[3]


def _scores_in_the(answer: Any) -> None:
    parts = _halves(11, 4, scale=300)
    merge.agree(answer, *parts)
    expect(bool(torch.as_tensor(answer(*parts)).isfinite().all()), "some results are not finite")


def _log_weights(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    total = first_lse + second_lse
    return (first_lse / total)[:, None] * first + (second_lse / total)[:, None] * second


def _bare_exp(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    weights = first_lse.exp()[:, None], second_lse.exp()[:, None]
    return (weights[0] * first + weights[1] * second) / (weights[0] + weights[1])


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
        "scores in the hundreds": _scores_in_the,
    },
    mistakes={
        (
            "you took the mean of the halves; the one with the larger scores must count more"
        ): lambda first, first_lse, second, second_lse: (first + second) / 2,
        (
            "you weighted by the log-sum-exp itself; its exponential is the sum that a "
            "half stands for"
        ): _log_weights,
        (
            "you added up what each half stands for; divide by the sum of both"
        ): lambda first, first_lse, second, second_lse: (
            first_lse.exp()[:, None] * first + second_lse.exp()[:, None] * second
        ),
        "the shares are swapped: each half has got the other's": lambda first, first_lse, second, second_lse: (
            _merge_parts(first, second_lse, second, first_lse)
        ),
        (
            "exp overflows: subtract the larger of the two log-sum-exps first, or use softmax"
        ): _bare_exp,
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
    new_table, new_uses, copied = _place_to_write(table, uses, length, block_size)
    if copied is not None:
        new_uses[copied] += 1
    return new_table, new_uses, copied


def _always_copies(table: list[int], uses: list[int], length: int, block_size: int) -> Place:
    if length // block_size == len(table):
        return _place_to_write(table, uses, length, block_size)
    held = [use + (block == table[length // block_size]) for block, use in enumerate(uses)]
    new_table, new_uses, copied = _place_to_write(table, held, length, block_size)
    new_uses[copied or 0] -= 1
    return new_table, new_uses, copied


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
        (
            "the block is chosen one token too late: with blocks of 4, token 8 is the "
            "first of the third"
        ): lambda table, uses, length, block_size: _place_to_write(
            table, uses, max(0, length - 1), block_size
        ),
        (
            "you copied the full shared blocks too; only a block that is written needs a copy"
        ): _copies_all,
    },
)
