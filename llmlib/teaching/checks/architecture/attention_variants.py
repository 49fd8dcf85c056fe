"""Checks of chapters/04_architecture/05_attention_variants.ipynb: patterns and shared heads."""

import torch
from torch import Tensor

from llmlib.architecture.attention.sparse import window_mask
from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "04_architecture/05_attention_variants"

# A window with sinks


def _first_columns(queries: Tensor, keys: Tensor, window: int, n_sinks: int) -> Tensor:
    is_sink = (torch.arange(len(keys)) < n_sinks) & (keys <= queries[:, None])
    return window_mask(queries, keys, window) | is_sink


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
