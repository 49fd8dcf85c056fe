"""Check of the attention section's last exercise: attention block by block of keys."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture.attention.multihead import attention_weights
from llmlib.teaching.authoring import Exercise, args, expect, normal, peak_bytes

NOTEBOOK = "04_architecture/01_attention"


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


def _qkv(n_keys: int) -> tuple[Tensor, Tensor, Tensor]:
    return normal(3, 4), normal(n_keys, 4, seed=1), normal(n_keys, 2, seed=2)


def _blocks(
    queries: Tensor, keys: Tensor, values: Tensor, block: int
) -> list[tuple[Tensor, Tensor]]:
    scores = queries @ keys.mT / math.sqrt(queries.shape[-1])
    return list(zip(scores.split(block, dim=-1), values.split(block), strict=True))


def _running(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    block: int = 4,
    *,
    shrinks_total: bool = True,
    shrinks_mixed: bool = True,
) -> Tensor:
    largest = torch.full((len(queries), 1), -torch.inf)
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
        "3 queries, 8 keys in blocks of 4": args(*_qkv(8), 4),
        "scores that grow from block to block": args(
            normal(3, 4).abs(),
            normal(8, 4, seed=1).abs() * torch.arange(1.0, 9.0)[:, None],
            normal(8, 2, seed=2),
            2,
        ),
        "11 keys in blocks of 4: the last block is short": args(*_qkv(11), 4),
        "scores in the hundreds": args(200 * normal(3, 4), *_qkv(11)[1:], 4),
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
        "the last block is missing where it is shorter than the others": _last_block_missing,
        "exp overflows: subtract the largest score seen so far before exp": _no_maximum,
        _ALL_AT_ONCE: lambda q, k, v, block=4: attention_weights(q, k) @ v,
    },
)
