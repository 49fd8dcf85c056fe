"""Checks of the exercises of chapters/04_architecture/01_attention.ipynb."""

import math

import torch
from torch import Tensor

from llmlib.architecture import causal_mask
from llmlib.architecture import scaled_dot_product_attention as attend
from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/01_attention"


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Scaled scores


def _scaled_scores(queries: Tensor, keys: Tensor) -> Tensor:
    return queries @ keys.mT / math.sqrt(queries.shape[-1])


scores = Exercise(
    "scaled_scores",
    title="the scores of every query with every key",
    reference=_scaled_scores,
    hints=(
        "One dot product for each pair of a query and a key: that is one matrix product.",
        "The rows of `keys` must become columns: `keys.mT` swaps the last two axes.",
        "`queries @ keys.mT`, divided by the root of the head size, `queries.shape[-1] ** 0.5`.",
    ),
    cases={
        "3 queries, 5 keys, K = 4": args(_random(3, 4), _random(5, 4, seed=1)),
        "2 queries, 7 keys, K = 64": args(_random(2, 64), _random(7, 64, seed=1)),
        "a batch of 2 texts with 3 heads each": args(
            _random(2, 3, 5, 4), _random(2, 3, 7, 4, seed=1)
        ),
    },
    mistakes={
        (
            "these are the bare dot products: divide by the root of the head size K"
        ): lambda queries, keys: queries @ keys.mT,
        (
            "you divided by K; divide by its square root, which makes the variance 1"
        ): lambda queries, keys: queries @ keys.mT / queries.shape[-1],
        (
            "you divided by the root of the number of keys; K is the length of one vector"
        ): lambda queries, keys: queries @ keys.mT / math.sqrt(keys.shape[-2]),
        (
            "the scores are right but you went on: the softmax is not asked for yet"
        ): lambda queries, keys: _scaled_scores(queries, keys).softmax(dim=-1),
        (
            "a row should belong to a query and a column to a key; yours are swapped"
        ): lambda queries, keys: _scaled_scores(queries, keys).mT,
    },
)


# Causal softmax


def _causal_softmax(scores: Tensor) -> Tensor:
    mask = causal_mask(*scores.shape[-2:], device=scores.device)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def _diagonal_hidden(scores: Tensor) -> Tensor:
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(-1)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def _transposed(scores: Tensor) -> Tensor:
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu()
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def _wrong_axis(scores: Tensor) -> Tensor:
    mask = causal_mask(scores.shape[-1])
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-2)


def _bare_exp(scores: Tensor) -> Tensor:
    exponentials = scores.exp().tril()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


causal = Exercise(
    "causal_softmax",
    title="attention weights that cannot see the future",
    points=2,
    reference=_causal_softmax,
    hints=(
        "Row t may use columns 0 to t. The rest must not count in the sum below the fraction.",
        "`torch.ones(T, T, dtype=torch.bool).tril()` is True where attention is allowed.",
        "`scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)`: masked first, softmax last.",
    ),
    cases={
        "4 tokens": args(_random(4, 4)),
        "a batch of 2 texts with 3 heads, 5 tokens": args(_random(2, 3, 5, 5)),
        "scores in the hundreds, which overflow a bare exp": args(300 * _random(6, 6)),
    },
    mistakes={
        (
            "your mask hides the diagonal: a token may attend to itself, and the first must"
        ): _diagonal_hidden,
        (
            "you masked after the softmax: the rows no longer sum to 1, mask the scores"
        ): lambda scores: scores.softmax(dim=-1).tril(),
        "your mask is transposed: every token sees the future and not the past": _transposed,
        "the softmax runs over the queries; each query's row must sum to 1: dim=-1": _wrong_axis,
        "a masked score of 0 still counts, since exp(0) is 1: it has to be -inf": lambda scores: (
            scores.tril().softmax(dim=-1)
        ),
        "this is the softmax without any mask": lambda scores: scores.softmax(dim=-1),
        "exp overflows here; subtract each row's largest score first, or use softmax": _bare_exp,
    },
)


# Splitting heads


def _split_heads(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


split = Exercise(
    "split_heads",
    title="one wide vector a token becomes H narrow ones",
    points=2,
    reference=_split_heads,
    hints=(
        "Head h takes the components h K to (h + 1) K - 1 of every token.",
        "First cut the last axis in two: [B, T, H, K]. No data moves yet.",
        "`x.view(B, T, H, K).transpose(1, 2)`: view keeps the order, transpose changes it.",
    ),
    cases={
        "2 texts of 5 tokens, D = 12, 3 heads": args(torch.arange(120.0).view(2, 5, 12), 3),
        "as many tokens as heads, where a wrong order has the right shape": args(
            _random(2, 4, 20), 4
        ),
        "one head": args(_random(3, 5, 7), 1),
    },
    mistakes={
        (
            "the shape is right but the tokens are mixed up: one view to [B, H, T, K] cuts "
            "the data in its old order. View as [B, T, H, K], then transpose the two "
            "middle axes"
        ): lambda x, n_heads: x.reshape(x.shape[0], n_heads, x.shape[1], -1),
        (
            "each head took every H-th component; it should take K neighbors: [..., H, K]"
        ): lambda x, n_heads: x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2),
        (
            "[B, T, H, K] is half of it: the heads must come before the tokens, so transpose"
        ): lambda x, n_heads: x.unflatten(-1, (n_heads, -1)),
    },
)


# Grouped-query attention


def _grouped_query_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
    return attend(queries, keys, values, causal_mask(queries.shape[2]))


def _qkv(n_heads: int, n_kv_heads: int, n_tokens: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _random(2, n_heads, n_tokens, 4),
        _random(2, n_kv_heads, n_tokens, 4, seed=1),
        _random(2, n_kv_heads, n_tokens, 4, seed=2),
    )


def _tiled(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat(1, group, 1, 1) for x in (keys, values))
    return attend(queries, keys, values, causal_mask(queries.shape[2]))


def _not_causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
    return attend(queries, keys, values)


grouped = Exercise(
    "grouped_query_attention",
    title="several query heads share one key/value head",
    points=3,
    reference=_grouped_query_attention,
    hints=(
        "With H = 6 and G = 2 the query heads 0, 1, 2 use key head 0 and 3, 4, 5 use key head 1.",
        "`repeat_interleave` gives 0 0 0 1 1 1; `repeat` gives 0 1 0 1 0 1.",
        "Repeat keys and values H // G times along the head axis, then attend causally as before.",
    ),
    cases={
        "6 query heads on 2 key/value heads": args(*_qkv(6, 2)),
        "multi-query: 3 query heads on 1": args(*_qkv(3, 1)),
        "multi-head: 3 on 3": args(*_qkv(3, 3)),
    },
    mistakes={
        (
            "the heads are paired 0 1 0 1 0 1; the book and the published models pair them "
            "0 0 0 1 1 1: repeat_interleave, not repeat"
        ): _tiled,
        (
            "every query head uses key/value head 0; each group has its own"
        ): lambda queries, keys, values: _grouped_query_attention(
            queries, keys[:, :1], values[:, :1]
        ),
        "the heads are right, but the causal mask is missing": _not_causal,
        (
            "the heads and the mask are right, but the scores are not divided by sqrt(K)"
        ): lambda queries, keys, values: _grouped_query_attention(
            queries * math.sqrt(queries.shape[-1]), keys, values
        ),
    },
)
