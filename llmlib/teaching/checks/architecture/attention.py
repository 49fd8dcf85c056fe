"""Checks of the exercises of chapters/04_architecture/01_attention.ipynb."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.attention.multihead import attention_weights, causal_mask
from llmlib.architecture.attention.multihead import scaled_dot_product_attention as attend
from llmlib.teaching.answers.measured import peak_bytes
from llmlib.teaching.authoring import Exercise, args, expect, normal

NOTEBOOK = "04_architecture/01_attention"

# Scaled scores


def _scaled(queries: Tensor, keys: Tensor) -> Tensor:
    return queries @ keys.mT / math.sqrt(queries.shape[-1])


scores = Exercise(
    "scaled_scores",
    title="the scores of every query with every key",
    reference=_scaled,
    hints=(
        "One dot product for each pair of a query and a key: that is one matrix product.",
        "The rows of `keys` must become columns: `keys.mT` swaps the last two axes.",
        "`queries @ keys.mT`, divided by the root of the head size, `queries.shape[-1] ** 0.5`.",
    ),
    cases={
        "3 queries, 5 keys, K = 4": args(normal(3, 4), normal(5, 4, seed=1)),
        "2 queries, 7 keys, K = 64": args(normal(2, 64), normal(7, 64, seed=1)),
        "a batch of 2 texts with 3 heads": args(normal(2, 3, 5, 4), normal(2, 3, 7, 4, seed=1)),
    },
    mistakes={
        "these are bare dot products: divide by the root of the head size K": lambda q, k: q @ k.mT,
        "you divided by K; divide by its square root, which makes the variance 1": (
            lambda q, k: q @ k.mT / q.shape[-1]
        ),
        "you divided by the root of the number of keys; "
        "K is the length of one vector": lambda q, k: q @ k.mT / math.sqrt(k.shape[-2]),
        "the scores are right but you went on: the softmax is not asked for yet": (
            lambda q, k: _scaled(q, k).softmax(dim=-1)
        ),
        "rows are queries and columns are keys; yours are swapped": lambda q, k: _scaled(q, k).mT,
    },
)


# Causal softmax


def _softmax_where(allowed: Tensor, scores: Tensor, dim: int = -1) -> Tensor:
    return scores.masked_fill(~allowed, -torch.inf).softmax(dim=dim)


def _bare_exp(scores: Tensor) -> Tensor:
    exponentials = scores.exp().tril()
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


causal = Exercise(
    "causal_softmax",
    title="attention weights that cannot see the future",
    points=2,
    reference=lambda scores: _softmax_where(causal_mask(scores.shape[-1]), scores),
    hints=(
        "Row t may use columns 0 to t. The rest must not count in the sum below the fraction.",
        "`torch.ones(T, T, dtype=torch.bool).tril()` is True where attention is allowed.",
        "`scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)`: masked first, softmax last.",
    ),
    cases={
        "4 tokens": args(normal(4, 4)),
        "a batch of 2 texts with 3 heads, 5 tokens": args(normal(2, 3, 5, 5)),
        "scores in the hundreds, which overflow a bare exp": args(300 * normal(6, 6)),
        "scores of less than -20,000": args(-20_000 - torch.arange(25.0).view(5, 5) % 7),
    },
    mistakes={
        "your mask hides the diagonal: a token may attend to itself, and the first must": (
            lambda scores: _softmax_where(causal_mask(scores.shape[-1]).tril(-1), scores)
        ),
        "you masked after the softmax: the rows no longer sum to 1, "
        "mask the scores": lambda scores: scores.softmax(dim=-1).tril(),
        "your mask is transposed: every token sees the future and not the past": (
            lambda scores: _softmax_where(causal_mask(scores.shape[-1]).T, scores)
        ),
        "the softmax runs over the queries; each query's row must sum to 1: dim=-1": (
            lambda scores: _softmax_where(causal_mask(scores.shape[-1]), scores, dim=-2)
        ),
        "a masked score of 0 still counts, since exp(0) is 1: it has to be -inf": (
            lambda scores: scores.tril().softmax(dim=-1)
        ),
        "a masked score must be -inf: here the others lie below your number": (
            lambda scores: scores.masked_fill(~causal_mask(scores.shape[-1]), -100).softmax(dim=-1)
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
        "as many tokens as heads: a wrong order has the right shape": args(normal(2, 4, 20), 4),
        "one head": args(normal(3, 5, 7), 1),
    },
    mistakes={
        "the shape is right but the tokens are mixed up: one view to [B, H, T, K] cuts the data in "
        "its old order. View as [B, T, H, K], then transpose the two middle axes": (
            lambda x, n_heads: x.reshape(x.shape[0], n_heads, x.shape[1], -1)
        ),
        "each head took every H-th component; it should take K neighbors: [..., H, K]": (
            lambda x, n_heads: x.unflatten(-1, (-1, n_heads)).permute(0, 3, 1, 2)
        ),
        "[B, T, H, K] is half of it: the heads must come before the tokens, "
        "so transpose": lambda x, n_heads: x.unflatten(-1, (n_heads, -1)),
    },
)


# Grouped-query attention


def _grouped(
    queries: Tensor, keys: Tensor, values: Tensor, *, tiled: bool = False, is_causal: bool = True
) -> Tensor:
    group = queries.shape[1] // keys.shape[1]
    keys, values = (
        x.repeat(1, group, 1, 1) if tiled else x.repeat_interleave(group, dim=1)
        for x in (keys, values)
    )
    return attend(queries, keys, values, causal_mask(queries.shape[2]) if is_causal else None)


def _far_below(n_heads: int, n_kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys whose scores are -20,000, -20,001 ..., as exact as float32 can be."""
    queries, keys = torch.zeros(1, n_heads, 5, 4), torch.zeros(1, n_kv_heads, 5, 4)
    queries[..., 0] = -2
    keys[..., 0] = 20_000 + torch.arange(n_kv_heads * 5).view(n_kv_heads, 5) % 7
    return queries, keys, normal(1, n_kv_heads, 5, 4)


def _small_number(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    keys, values = (
        x.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1) for x in (keys, values)
    )
    scores = _scaled(queries, keys).masked_fill(~causal_mask(queries.shape[2]), -100)
    return scores.softmax(dim=-1) @ values


def _qkv(n_heads: int, n_kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    keys, values = (normal(2, n_kv_heads, 5, 4, seed=seed) for seed in (1, 2))
    return normal(2, n_heads, 5, 4), keys, values


grouped = Exercise(
    "grouped_query_attention",
    title="several query heads share one key/value head",
    points=3,
    reference=_grouped,
    hints=(
        "With H = 6 and G = 2 the query heads 0, 1, 2 use key head 0 and 3, 4, 5 use key head 1.",
        "`repeat_interleave` gives 0 0 0 1 1 1; `repeat` gives 0 1 0 1 0 1.",
        "Repeat keys and values H // G times along the head axis, then attend causally as before.",
    ),
    cases={
        "6 query heads on 2 key/value heads": args(*_qkv(6, 2)),
        "multi-query: 3 query heads on 1": args(*_qkv(3, 1)),
        "multi-head: 3 on 3": args(*_qkv(3, 3)),
        "scores of less than -20,000": args(*_far_below(4, 2)),
    },
    mistakes={
        "the heads are paired 0 1 0 1 0 1; the book and the published models pair them "
        "0 0 0 1 1 1: repeat_interleave, not repeat": partial(_grouped, tiled=True),
        "every query head uses key/value head 0; each group has its own": (
            lambda q, k, v: _grouped(q, k[:, :1], v[:, :1])
        ),
        "the heads are right, but the causal mask is missing": partial(_grouped, is_causal=False),
        "a masked score must be -inf: here the others lie below your number": _small_number,
        "the heads and the mask are right, but the scores are not divided by sqrt(K)": (
            lambda q, k, v: _grouped(q * math.sqrt(q.shape[-1]), k, v)
        ),
    },
)


# Attention block by block of keys


def _online_softmax_attention(
    queries: Tensor, keys: Tensor, values: Tensor, block: int = 4
) -> Tensor:
    queries, keys, values = (x[None, None] for x in (queries, keys, values))
    return F.scaled_dot_product_attention(queries, keys, values)[0, 0]


_ALL_AT_ONCE = (
    "the result is right, but somewhere you made a tensor as large as all T x S scores; look at "
    "one block of keys at a time"
)
_LARGE = normal(67, 8), normal(4001, 8, seed=1), normal(4001, 8, seed=2), 64


def _block_qkv(n_keys: int) -> tuple[Tensor, Tensor, Tensor]:
    return normal(3, 4), normal(n_keys, 4, seed=1), normal(n_keys, 2, seed=2)


def _blocks(
    queries: Tensor, keys: Tensor, values: Tensor, block: int
) -> list[tuple[Tensor, Tensor]]:
    blocks = _scaled(queries, keys).split(block, dim=-1)
    return list(zip(blocks, values.split(block), strict=True))


def _running(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    block: int = 4,
    *,
    shrinks_total: bool = True,
    shrinks_mixed: bool = True,
    first: float = -torch.inf,
) -> Tensor:
    largest = torch.full((len(queries), 1), first)
    total, mixed = torch.zeros(len(queries), 1), torch.zeros(len(queries), values.shape[-1])
    for scores, block_values in _blocks(queries, keys, values, block):
        new = torch.maximum(largest, scores.amax(dim=-1, keepdim=True))
        exponentials, shrink = (scores - new).exp(), (largest - new).exp()
        total = total * (shrink if shrinks_total else 1) + exponentials.sum(-1, keepdim=True)
        mixed = mixed * (shrink if shrinks_mixed else 1) + exponentials @ block_values
        largest = new
    return mixed / total


def _mean_of_blocks(queries: Tensor, keys: Tensor, values: Tensor, block: int = 4) -> Tensor:
    parts = [s.softmax(-1) @ v for s, v in _blocks(queries, keys, values, block)]
    return torch.stack(parts).mean(dim=0)


def _last_block_missing(queries: Tensor, keys: Tensor, values: Tensor, block: int = 4) -> Tensor:
    whole = len(keys) // block * block
    return _running(queries, keys[:whole], values[:whole], block)


def _no_maximum(queries: Tensor, keys: Tensor, values: Tensor, block: int = 4) -> Tensor:
    parts = [(s.exp(), v) for s, v in _blocks(queries, keys, values, block)]
    total = torch.stack([p.sum(-1, keepdim=True) for p, _ in parts]).sum(dim=0)
    return torch.stack([p @ v for p, v in parts]).sum(dim=0) / total


online = Exercise(
    "online_softmax_attention",
    title="attention without the T by S matrix",
    points=5,
    kind=True,  # NumPy's arrays would not be counted as memory
    reference=_online_softmax_attention,
    hints=(
        "Keep three things for each query: the largest score so far, the sum of exponentials, and "
        "the sum of exponentials times values.",
        "Sums that were made with the old maximum m are worth exp(m - m_new) times as much with "
        "the new one.",
        "In each block: `new = maximum(m, scores.amax(-1, keepdim=True))`, `p = exp(scores - new)`,"
        " `shrink = exp(m - new)`, `total = total * shrink + p.sum(-1, keepdim=True)`,"
        " `mixed = mixed * shrink + p @ block_values`. At the end `mixed / total`.",
    ),
    cases={
        "3 queries, 8 keys in blocks of 4": args(*_block_qkv(8), 4),
        "scores that grow from block to block": args(
            normal(3, 4).abs(),
            normal(8, 4, seed=1).abs() * torch.arange(1.0, 9.0)[:, None],
            normal(8, 2, seed=2),
            2,
        ),
        "11 keys in blocks of 4: the last block is short": args(*_block_qkv(11), 4),
        "scores in the hundreds": args(200 * normal(3, 4), *_block_qkv(11)[1:], 4),
        "scores of less than -200, the largest score included": args(
            torch.full((3, 4), -4.0), 100 + normal(7, 4, seed=1), normal(7, 2, seed=2), 3
        ),
        "a block that holds all keys, and blocks of one": [
            args(*_block_qkv(5), block) for block in (8, 1)
        ],
        "67 queries, 4001 keys in blocks of 64": args(*_LARGE),
        "memory for 67 queries and 4001 keys": (
            lambda f: expect(peak_bytes(f, *_LARGE) < 67 * 4001 * 4 / 2, _ALL_AT_ONCE)
        ),
    },
    mistakes={
        "when a block brings a larger score, the weighted sum made so far must shrink by exp(old "
        "maximum - new maximum); yours keeps its old size": partial(_running, shrinks_mixed=False),
        "when a block brings a larger score, the sum of exponentials made so far must shrink by "
        "exp(old maximum - new maximum) too; yours keeps its old size": partial(
            _running, shrinks_total=False
        ),
        "neither sum shrinks by exp(old maximum - new maximum) when a larger score comes": partial(
            _running, shrinks_total=False, shrinks_mixed=False
        ),
        "you averaged the blocks' own softmaxes: large scores should win": _mean_of_blocks,
        "the largest score so far must start at -inf: all scores may lie far below 0": partial(
            _running, first=0.0
        ),
        "the last block is missing where it is shorter than the others": _last_block_missing,
        "exp overflows: subtract the largest score seen so far before exp": _no_maximum,
        _ALL_AT_ONCE: lambda q, k, v, block=4: attention_weights(q, k) @ v,
    },
)
