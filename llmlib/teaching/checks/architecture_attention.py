"""Checks of the exercises of chapters/04_architecture/01_attention.ipynb."""

import math
from typing import Any

import torch
from torch import Tensor

from llmlib.architecture import causal_mask
from llmlib.architecture import scaled_dot_product_attention as attend
from llmlib.teaching.authoring import Exercise


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Scaled scores


def _scaled_scores(queries: Tensor, keys: Tensor) -> Tensor:
    return queries @ keys.mT / math.sqrt(queries.shape[-1])


scores = Exercise(
    "scaled_scores",
    chapter="04_architecture",
    notebook="01_attention",
    title="the scores of every query with every key",
    reference=_scaled_scores,
    hints=(
        "One dot product for each pair of a query and a key: that is one matrix product.",
        "The rows of `keys` must become columns: `keys.mT` swaps the last two axes.",
        "`queries @ keys.mT`, divided by the root of the head size, `queries.shape[-1] ** 0.5`.",
    ),
)


@scores.check("3 queries, 5 keys, K = 4")
def _(answer: Any) -> None:
    scores.agree(answer, _random(3, 4), _random(5, 4, seed=1))


@scores.check("2 queries, 7 keys, K = 64")
def _(answer: Any) -> None:
    scores.agree(answer, _random(2, 64), _random(7, 64, seed=1))


@scores.check("a batch of 2 texts with 3 heads each")
def _(answer: Any) -> None:
    scores.agree(answer, _random(2, 3, 5, 4), _random(2, 3, 7, 4, seed=1))


@scores.mistake("these are the bare dot products: divide by the root of the head size K")
def _not_divided(queries: Tensor, keys: Tensor) -> Tensor:
    return queries @ keys.mT


@scores.mistake("you divided by K; divide by its square root, which makes the variance 1")
def _divided_by_k(queries: Tensor, keys: Tensor) -> Tensor:
    return queries @ keys.mT / queries.shape[-1]


@scores.mistake("you divided by the root of the number of keys; K is the length of one vector")
def _divided_by_n_keys(queries: Tensor, keys: Tensor) -> Tensor:
    return queries @ keys.mT / math.sqrt(keys.shape[-2])


@scores.mistake("the scores are right but you went on: the softmax is not asked for yet")
def _softmaxed(queries: Tensor, keys: Tensor) -> Tensor:
    return _scaled_scores(queries, keys).softmax(dim=-1)


@scores.mistake("a row should belong to a query and a column to a key; yours are swapped")
def _swapped(queries: Tensor, keys: Tensor) -> Tensor:
    return _scaled_scores(queries, keys).mT


# Causal softmax


def _causal_softmax(scores: Tensor) -> Tensor:
    mask = causal_mask(*scores.shape[-2:], device=scores.device)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


causal = Exercise(
    "causal_softmax",
    chapter="04_architecture",
    notebook="01_attention",
    title="attention weights that cannot see the future",
    points=2,
    reference=_causal_softmax,
    hints=(
        "Row t may use columns 0 to t. The rest must not count in the sum below the fraction.",
        "`torch.ones(T, T, dtype=torch.bool).tril()` is True where attention is allowed.",
        "`scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)`: masked first, softmax last.",
    ),
)


@causal.check("4 tokens")
def _(answer: Any) -> None:
    causal.agree(answer, _random(4, 4))


@causal.check("a batch of 2 texts with 3 heads, 5 tokens")
def _(answer: Any) -> None:
    causal.agree(answer, _random(2, 3, 5, 5))


@causal.check("scores in the hundreds, which overflow a bare exp")
def _(answer: Any) -> None:
    causal.agree(answer, 300 * _random(6, 6))


@causal.mistake("your mask hides the diagonal: a token may attend to itself, and the first must")
def _diagonal_hidden(scores: Tensor) -> Tensor:
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(-1)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


@causal.mistake("you masked after the softmax: the rows no longer sum to 1, mask the scores")
def _masked_after(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1).tril()


@causal.mistake("your mask is transposed: every token sees the future and not the past")
def _transposed(scores: Tensor) -> Tensor:
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).triu()
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


@causal.mistake("the softmax runs over the queries; each query's row must sum to 1: dim=-1")
def _wrong_axis(scores: Tensor) -> Tensor:
    mask = causal_mask(scores.shape[-1])
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-2)


@causal.mistake("a masked score of 0 still counts, since exp(0) is 1: it has to be -inf")
def _zero_before(scores: Tensor) -> Tensor:
    return scores.tril().softmax(dim=-1)


@causal.mistake("this is the softmax without any mask")
def _no_mask(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1)


@causal.mistake("exp overflows here; subtract each row's largest score first, or use softmax")
def _bare_exp(scores: Tensor) -> Tensor:
    exponentials = scores.exp().tril()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


# Splitting heads


def _split_heads(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


split = Exercise(
    "split_heads",
    chapter="04_architecture",
    notebook="01_attention",
    title="one wide vector a token becomes H narrow ones",
    points=2,
    reference=_split_heads,
    hints=(
        "Head h takes the components h K to (h + 1) K - 1 of every token.",
        "First cut the last axis in two: [B, T, H, K]. No data moves yet.",
        "`x.view(B, T, H, K).transpose(1, 2)`: view keeps the order, transpose changes it.",
    ),
)


@split.check("2 texts of 5 tokens, D = 12, 3 heads")
def _(answer: Any) -> None:
    split.agree(answer, torch.arange(120.0).view(2, 5, 12), 3)


@split.check("as many tokens as heads, where a wrong order has the right shape")
def _(answer: Any) -> None:
    split.agree(answer, _random(2, 4, 20), 4)


@split.check("one head")
def _(answer: Any) -> None:
    split.agree(answer, _random(3, 5, 7), 1)


@split.mistake(
    "the shape is right but the tokens are mixed up: one view to [B, H, T, K] cuts the data in "
    "its old order. View as [B, T, H, K], then transpose the two middle axes"
)
def _view_alone(x: Tensor, n_heads: int) -> Tensor:
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1)


@split.mistake("each head took every H-th component; it should take K neighbors: [..., H, K]")
def _interleaved(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)


@split.mistake("[B, T, H, K] is half of it: the heads must come before the tokens, so transpose")
def _not_transposed(x: Tensor, n_heads: int) -> Tensor:
    return x.unflatten(-1, (n_heads, -1))


# Grouped-query attention


def _grouped_query_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
    return attend(queries, keys, values, causal_mask(queries.shape[2]))


grouped = Exercise(
    "grouped_query_attention",
    chapter="04_architecture",
    notebook="01_attention",
    title="several query heads share one key/value head",
    points=3,
    reference=_grouped_query_attention,
    hints=(
        "With H = 6 and G = 2 the query heads 0, 1, 2 use key head 0 and 3, 4, 5 use key head 1.",
        "`repeat_interleave` gives 0 0 0 1 1 1; `repeat` gives 0 1 0 1 0 1.",
        "Repeat keys and values H // G times along the head axis, then attend causally as before.",
    ),
)


def _qkv(n_heads: int, n_kv_heads: int, n_tokens: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _random(2, n_heads, n_tokens, 4),
        _random(2, n_kv_heads, n_tokens, 4, seed=1),
        _random(2, n_kv_heads, n_tokens, 4, seed=2),
    )


@grouped.check("6 query heads on 2 key/value heads")
def _(answer: Any) -> None:
    grouped.agree(answer, *_qkv(6, 2))


@grouped.check("multi-query: 3 query heads on 1")
def _(answer: Any) -> None:
    grouped.agree(answer, *_qkv(3, 1))


@grouped.check("multi-head: 3 on 3")
def _(answer: Any) -> None:
    grouped.agree(answer, *_qkv(3, 3))


@grouped.mistake(
    "the heads are paired 0 1 0 1 0 1; the book and the published models pair them 0 0 0 1 1 1: "
    "repeat_interleave, not repeat"
)
def _tiled(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat(1, group, 1, 1) for x in (keys, values))
    return attend(queries, keys, values, causal_mask(queries.shape[2]))


@grouped.mistake("every query head uses key/value head 0; each group has its own")
def _first_head_only(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _grouped_query_attention(queries, keys[:, :1], values[:, :1])


@grouped.mistake("the heads are right, but the causal mask is missing")
def _not_causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
    return attend(queries, keys, values)


@grouped.mistake("the heads and the mask are right, but the scores are not divided by sqrt(K)")
def _not_scaled(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _grouped_query_attention(queries * math.sqrt(queries.shape[-1]), keys, values)
