"""Checks of chapters/04_architecture/05_attention_variants.ipynb: patterns and shared heads."""

import torch
from torch import Tensor

from llmlib.architecture.attention.sparse import window_mask
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/05_attention_variants"


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# A window with sinks


def _one_too_narrow(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    offsets = queries[:, None] - keys
    return (offsets >= 0) & ((offsets < window - 1) | (keys < n_sinks))


def _sinks_of_the_future(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    offsets = queries[:, None] - keys
    return ((offsets >= 0) & (offsets < window)) | (keys < n_sinks)


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
        "two new tokens at positions 6 and 7 against 8 keys": args(
            torch.arange(6, 8), torch.arange(8), 3, 1
        ),
    },
    mistakes={
        (
            "the window is one too wide: the query itself is one of its `window` tokens"
        ): lambda queries, keys, window, n_sinks: window_mask(queries, keys, window + 1, n_sinks),
        "the window is one too narrow: `window` tokens, the query itself included": _one_too_narrow,
        (
            "the sinks are missing: the first n_sinks keys stay visible however far away"
        ): lambda queries, keys, window, n_sinks: window_mask(queries, keys, window),
        (
            "the future is visible: a key behind the query only, offsets of 0 or more"
        ): lambda queries, keys, window, n_sinks: (
            (queries[:, None] - keys < window) | (keys < n_sinks)
        ),
        (
            "a sink must not be seen before it is there: the first query sees itself alone"
        ): _sinks_of_the_future,
        (
            "you counted rows from 0; the queries have positions of their own, and a new "
            "token is not the first of its text"
        ): lambda queries, keys, window, n_sinks: window_mask(
            torch.arange(len(queries)), keys, window, n_sinks
        ),
    },
)


# Fewer key heads


def _pool_heads(weight: Tensor, n_heads: int, n_groups: int) -> Tensor:
    return weight.unflatten(0, (n_groups, n_heads // n_groups, -1)).mean(dim=1).flatten(0, 1)


pool = Exercise(
    "pool_heads",
    title="the weights of G key heads from those of H",
    points=2,
    reference=_pool_heads,
    hints=(
        "The rows are H heads of K rows, one head after the other: [H K, D].",
        "Neighbouring heads form a group: cut the rows as [G, H / G, K, D].",
        "`weight.view(G, H // G, K, D).mean(dim=1).view(G * K, D)`",
    ),
    cases={
        "6 heads of 4 become 2": args(_random(24, 5), 6, 2),
        "4 heads of 3 become 1, as for multi-query attention": args(_random(12, 7), 4, 1),
        "as many groups as heads: nothing changes": args(_random(12, 7), 4, 4),
    },
    mistakes={
        (
            "you mixed heads 0, 2, 4 and 1, 3, 5; a group's heads are neighbours, since "
            "its query heads are"
        ): lambda weight, n_heads, n_groups: (
            weight.unflatten(0, (n_heads // n_groups, n_groups, -1)).mean(dim=0).flatten(0, 1)
        ),
        (
            "you kept each group's first head; the mean of its heads keeps more of the model"
        ): lambda weight, n_heads, n_groups: weight.unflatten(
            0, (n_groups, n_heads // n_groups, -1)
        )[:, 0].flatten(0, 1),
        "you added the heads of a group up; divide by their number": lambda weight, n_heads, n_groups: (
            _pool_heads(weight, n_heads, n_groups) * (n_heads // n_groups)
        ),
        (
            "you averaged neighbouring rows inside the heads; average whole heads, row by row"
        ): lambda weight, n_heads, n_groups: weight.unflatten(0, (-1, n_heads // n_groups)).mean(
            dim=1
        ),
    },
)
