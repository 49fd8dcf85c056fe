"""Checks of the exercises of chapters/04_architecture/05_attention_variants.ipynb."""

import torch
from torch import Tensor

from llmlib.architecture.attention.sparse_masks import window_mask
from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "04_architecture/05_attention_variants"

# A window with sinks


def _first_columns(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    is_sink = (torch.arange(len(keys)) < n_sinks) & (keys <= queries[:, None])
    return window_mask(queries, keys, window) | is_sink


def _by_place(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    n, columns = len(keys), torch.arange(len(keys))
    rows = torch.arange(n - len(queries), n)
    return window_mask(rows, columns, window) | ((keys < n_sinks) & (columns <= rows[:, None]))


sinks = Exercise(
    "window_with_sinks",
    title="a sliding window that never forgets the first tokens",
    reference=window_mask,
    hints=(
        "`queries[:, None] - keys` is how far each key lies behind each query, for all pairs.",
        "Three conditions: not in the future; near enough, or a sink.",
        "`(offsets >= 0) & ((offsets < window) | (keys < n_sinks))`",
    ),
    cases={
        "7 tokens, a window of 3, no sinks": args(torch.arange(7), torch.arange(7), 3, 0),
        "9 tokens, a window of 2, 2 sinks": args(torch.arange(9), torch.arange(9), 2, 2),
        "tokens 6 and 7 against 8 keys": args(torch.arange(6, 8), torch.arange(8), 3, 1),
        "tokens 6 and 7 against a cache that has lost tokens 1 and 2": args(
            torch.arange(6, 8), torch.tensor([0, 3, 4, 5, 6, 7]), 3, 2
        ),
        "keys with a gap inside the window": args(
            torch.tensor([7, 8]), torch.tensor([0, 1, 3, 6, 7, 8]), 4, 1
        ),
        "keys in the order of a ring, queries last first": args(
            torch.tensor([9, 8]), torch.tensor([8, 9, 0, 5, 6, 7, 1]), 3, 2
        ),
    },
    mistakes={
        "the window is one too wide: the query itself is one of its `window` tokens": (
            lambda q, k, w, s: window_mask(q, k, w + 1, s)
        ),
        "the window is one too narrow: `window` tokens, the query itself included": (
            lambda q, k, w, s: window_mask(q, k, w - 1, s)
        ),
        "the sinks are missing: the first n_sinks keys stay visible however far away": (
            lambda q, k, w, s: window_mask(q, k, w)
        ),
        "the future is visible: a key behind the query only, "
        "offsets of 0 or more": lambda q, k, w, s: (q[:, None] - k < w) | (k < s),
        "a sink must not be seen before it is there: "
        "the first query sees itself alone": lambda q, k, w, s: window_mask(q, k, w) | (k < s),
        "you counted rows from 0; the queries have positions of their own, and a new "
        "token is not the first of its text": (
            lambda q, k, w, s: window_mask(torch.arange(len(q)), k, w, s)
        ),
        "you counted places in the cache; the window is of positions in the text": _by_place,
        "you counted columns from 0; the sinks are the first tokens of the text, "
        "not of the keys": _first_columns,
    },
)


# Fewer key heads


def _pool(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    return weight.unflatten(0, (n_groups, n_heads // n_groups, -1)).mean(dim=1).flatten(0, 1)


pool = Exercise(
    "pool_heads",
    title="the weights of G key heads from those of H",
    points=2,
    reference=_pool,
    hints=(
        "The rows are H heads of K rows, one head after the other: [H K, D].",
        "Neighbouring heads form a group: cut the rows as [G, H / G, K, D].",
        "`weight.view(G, H // G, K, D).mean(dim=1).view(G * K, D)`",
    ),
    cases={
        "6 heads of 4 become 2": args(normal(24, 5), 6, 2),
        "4 heads of 3 become 1, as for multi-query attention": args(normal(12, 7), 4, 1),
        "as many groups as heads: nothing changes": args(normal(12, 7), 4, 4),
    },
    mistakes={
        "you mixed heads 0, 2, 4 and 1, 3, 5; "
        "a group's heads are neighbours, since its query heads are": (
            lambda w, h, g: w.unflatten(0, (h // g, g, -1)).mean(dim=0).flatten(0, 1)
        ),
        "you kept each group's first head; the mean of its heads keeps more of the model": (
            lambda w, h, g: w.unflatten(0, (g, h // g, -1))[:, 0].flatten(0, 1)
        ),
        "divide the sum of the heads by their number": lambda w, h, g: _pool(w, h, g) * (h // g),
        "you averaged neighbouring rows inside the heads; average whole heads, "
        "row by row": lambda w, h, g: w.unflatten(0, (-1, h // g)).mean(dim=1),
    },
)


# Two halves of the keys


def _merge_parts(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    weights = torch.stack((first_lse, second_lse)).softmax(dim=0).unsqueeze(-1)
    return weights[0] * first + weights[1] * second


def _halves(n_keys: int, cut: int, scale: int | float = 1, shift: int | float = 0) -> list[Tensor]:
    scores = scale * normal(3, n_keys) + shift
    values = normal(n_keys, 4, seed=1)
    parts = []
    for some in (slice(0, cut), slice(cut, n_keys)):
        parts += [scores[:, some].softmax(-1) @ values[some], scores[:, some].logsumexp(-1)]
    return parts


def _sum(first: Tensor, first_lse: Tensor, second: Tensor, second_lse: Tensor) -> Tensor:
    return first_lse.exp()[:, None] * first + second_lse.exp()[:, None] * second


merged_parts = Exercise(
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
        "all scores far below zero": args(*_halves(11, 4, shift=-900.0)),
        "no key on one side": args(*_halves(5, 0)),
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
