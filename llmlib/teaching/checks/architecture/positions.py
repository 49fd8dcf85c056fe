"""Checks of the exercises of chapters/04_architecture/04_positions.ipynb."""

import torch
from torch import Tensor

from llmlib.architecture.kernels.fused import rotate
from llmlib.architecture.positions.alibi import alibi_bias, alibi_slopes
from llmlib.architecture.positions.rope import rope_angles, rope_frequencies
from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "04_architecture/04_positions"

# ALiBi's penalties


def _penalties(n_heads: int, n_tokens: int) -> Tensor:
    positions = torch.arange(n_tokens).unsqueeze(0)
    return alibi_bias(alibi_slopes(n_heads), positions, positions)[0].tril()


def _distances(n_tokens: int) -> Tensor:
    positions = torch.arange(n_tokens)
    return positions[:, None] - positions


def _falling(slopes: Tensor, distances: Tensor) -> Tensor:
    return -slopes[:, None, None] * distances


penalties = Exercise(
    "alibi_penalties",
    title="what ALiBi adds to the scores of every head",
    reference=_penalties,
    hints=(
        "Head h = 1 ... H falls by 2 ** (-8 h / H) a token: one slope a head.",
        "The distance of query t from key s is t - s; `clamp_min(0)` makes it 0 for later keys.",
        "`-slopes[:, None, None] * (t[:, None] - s[None, :]).clamp_min(0)`, shape [H, T, T].",
    ),
    cases={
        "4 heads, 5 tokens": args(4, 5),
        "16 heads, 3 tokens": args(16, 3),
        "one head": args(1, 7),
    },
    mistakes={
        "a penalty is below zero: yours *rewards* distance": lambda h, t: -_penalties(h, t),
        "your heads start at h = 0, whose slope is 1; h runs from 1 to H": (
            lambda h, t: _falling(2.0 ** (-8 * torch.arange(h) / h), _distances(t).clamp_min(0))
        ),
        "your slopes are 1/2, 1/4, 1/8 ...: right for 8 heads only, since 8 is spread over H": (
            lambda h, t: _falling(2.0 ** -torch.arange(1.0, h + 1), _distances(t).clamp_min(0))
        ),
        "the scores are [query, key]; yours are transposed": lambda h, t: _penalties(h, t).mT,
        "later keys have a distance below zero, which becomes a reward: "
        "clamp it at 0": lambda h, t: _falling(alibi_slopes(h), _distances(t)),
    },
)


# RoPE


def _rotate_by_position(x: Tensor, theta: float) -> Tensor:
    angles = rope_angles(torch.arange(len(x)).unsqueeze(0), rope_frequencies(x.shape[1], theta))
    return rotate(x[None, :, None], *angles)[0, :, 0]


def _neighbors(x: Tensor, theta: float) -> Tensor:
    split = torch.cat((x[:, 0::2], x[:, 1::2]), dim=1)
    halves = _rotate_by_position(split, theta).chunk(2, dim=1)
    return torch.stack(halves, dim=-1).flatten(1)


def _backwards(x: Tensor, theta: float) -> Tensor:
    half = x.shape[1] // 2
    return _rotate_by_position(x.roll(half, dims=1), theta).roll(half, dims=1)


rotated = Exercise(
    "rotate_by_position",
    title="RoPE on the vectors of one head",
    points=2,
    reference=_rotate_by_position,
    hints=(
        "K / 2 pairs: component i with component i + K / 2. Pair i turns by theta ** (-2 i / K) "
        "a token.",
        "The angles are `positions[:, None] * frequencies`, [T, K / 2]; take cosine and sine.",
        "`a, b = x.chunk(2, dim=-1)`, then concatenate `a cos - b sin` and `b cos + a sin`.",
    ),
    cases={
        "5 tokens, K = 8, theta = 10,000": args(normal(5, 8), 10_000.0),
        "7 tokens, K = 2, theta = 100: a single pair": args(normal(7, 2), 100.0),
        "3 tokens, K = 6, theta = 500": args(normal(3, 6), 500.0),
    },
    mistakes={
        "you paired neighbors as the paper does; here i goes with i + K / 2": _neighbors,
        "you turn the wrong way round: check the signs of the two sines": _backwards,
        "positions count from 0: the first token is not turned at all": (
            lambda x, theta: _rotate_by_position(torch.cat((x[:1], x)), theta)[1:]
        ),
        "your frequencies fall half as fast: "
        "the exponent is -2 i / K for pair i": lambda x, theta: _rotate_by_position(x, theta**0.5),
    },
)


# Scores by distance


def _picked(by_distance: Tensor, columns: Tensor) -> Tensor:
    return by_distance.gather(-1, columns.clamp_min(0).expand_as(by_distance))


aligned = Exercise(
    "align_distances",
    title="from one score a distance to one a key, without a loop",
    points=3,
    reference=lambda by_distance: _picked(by_distance, _distances(by_distance.shape[-1])).tril(),
    hints=(
        "Key s of query t takes the score of distance t - s. Write down which column that is.",
        "`by_distance.gather(-1, columns)` picks by an index of the same shape; no index may be "
        "below zero.",
        "columns[t, s] = max(t - s, 0), expanded to the batch; `tril()` clears the later keys.",
    ),
    cases={
        "4 tokens": args(normal(4, 4)),
        "2 texts with 3 heads, 7 tokens": args(normal(2, 3, 7, 7)),
    },
    mistakes={
        "the diagonal should hold each query's distance 0; "
        "your columns did not move": lambda by_distance: by_distance.tril(),
        "every row moved equally: the shift grows from row to row": lambda x: x.flip(-1).tril(),
        "right up to the diagonal, but later keys must be 0: a causal mask hides them": (
            lambda x: _picked(x, _distances(x.shape[-1]))
        ),
        "your columns are s - t, the key minus the query; a distance back is t - s": (
            lambda x: _picked(x, -_distances(x.shape[-1])).tril()
        ),
    },
)
