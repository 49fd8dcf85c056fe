"""Checks of chapters/04_architecture/05_attention_variants.ipynb: patterns and shared heads."""

from typing import Any

import torch
from torch import Tensor

from llmlib.architecture.attention.sparse import window_mask
from llmlib.teaching.authoring import Exercise


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# A window with sinks

sinks = Exercise(
    "window_with_sinks",
    chapter="04_architecture",
    notebook="05_attention_variants",
    title="a sliding window that never forgets the first tokens",
    reference=window_mask,
    hints=(
        "`queries[:, None] - keys` is how far each key lies behind each query, for all pairs.",
        "Three conditions: not in the future; near enough, or a sink.",
        "`(offsets >= 0) & ((offsets < window) | (keys < n_sinks))`",
    ),
)


@sinks.check("7 tokens, a window of 3, no sinks")
def _(answer: Any) -> None:
    sinks.agree(answer, torch.arange(7), torch.arange(7), 3, 0)


@sinks.check("9 tokens, a window of 2, 2 sinks")
def _(answer: Any) -> None:
    sinks.agree(answer, torch.arange(9), torch.arange(9), 2, 2)


@sinks.check("two new tokens at positions 6 and 7 against 8 keys")
def _(answer: Any) -> None:
    sinks.agree(answer, torch.arange(6, 8), torch.arange(8), 3, 1)


@sinks.mistake("the window is one too wide: the query itself is one of its `window` tokens")
def _one_too_wide(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    return window_mask(queries, keys, window + 1, n_sinks)


@sinks.mistake("the window is one too narrow: `window` tokens, the query itself included")
def _one_too_narrow(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    offsets = queries[:, None] - keys
    return (offsets >= 0) & ((offsets < window - 1) | (keys < n_sinks))


@sinks.mistake("the sinks are missing: the first n_sinks keys stay visible however far away")
def _no_sinks(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    return window_mask(queries, keys, window)


@sinks.mistake("the future is visible: a key behind the query only, offsets of 0 or more")
def _sees_the_future(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    return (queries[:, None] - keys < window) | (keys < n_sinks)


@sinks.mistake("a sink must not be seen before it is there: the first query sees itself alone")
def _sinks_of_the_future(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    offsets = queries[:, None] - keys
    return ((offsets >= 0) & (offsets < window)) | (keys < n_sinks)


@sinks.mistake(
    "you counted rows from 0; the queries have positions of their own, and a new token is not "
    "the first of its text"
)
def _rows_for_positions(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    return window_mask(torch.arange(len(queries)), keys, window, n_sinks)


# Fewer key heads


def _pool_heads(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    return weight.unflatten(0, (n_groups, n_heads // n_groups, -1)).mean(dim=1).flatten(0, 1)


pool = Exercise(
    "pool_heads",
    chapter="04_architecture",
    notebook="05_attention_variants",
    title="the weights of G key heads from those of H",
    points=2,
    reference=_pool_heads,
    hints=(
        "The rows are H heads of K rows, one head after the other: [H K, D].",
        "Neighbouring heads form a group: cut the rows as [G, H / G, K, D].",
        "`weight.view(G, H // G, K, D).mean(dim=1).view(G * K, D)`",
    ),
)


@pool.check("6 heads of 4 become 2")
def _(answer: Any) -> None:
    pool.agree(answer, _random(24, 5), 6, 2)


@pool.check("4 heads of 3 become 1, as for multi-query attention")
def _(answer: Any) -> None:
    pool.agree(answer, _random(12, 7), 4, 1)


@pool.check("as many groups as heads: nothing changes")
def _(answer: Any) -> None:
    pool.agree(answer, _random(12, 7), 4, 4)


@pool.mistake(
    "you mixed heads 0, 2, 4 and 1, 3, 5; a group's heads are neighbours, since its query heads are"
)
def _strided_groups(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    return weight.unflatten(0, (n_heads // n_groups, n_groups, -1)).mean(dim=0).flatten(0, 1)


@pool.mistake("you kept each group's first head; the mean of its heads keeps more of the model")
def _first_head(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    return weight.unflatten(0, (n_groups, n_heads // n_groups, -1))[:, 0].flatten(0, 1)


@pool.mistake("you added the heads of a group up; divide by their number")
def _summed(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    return _pool_heads(weight, n_heads, n_groups) * (n_heads // n_groups)


@pool.mistake("you averaged neighbouring rows inside the heads; average whole heads, row by row")
def _rows_pooled(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    return weight.unflatten(0, (-1, n_heads // n_groups)).mean(dim=1)
