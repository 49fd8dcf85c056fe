"""Checks of the exercises of chapters/04_architecture/04_positions.ipynb."""

from typing import Any

import torch
from torch import Tensor

from llmlib.architecture import rope_angles, rope_frequencies
from llmlib.architecture.fused import rotate
from llmlib.architecture.positions.schemes import alibi_bias, alibi_slopes
from llmlib.teaching.authoring import Exercise


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ALiBi's penalties


def _alibi_penalties(n_heads: int, n_tokens: int) -> Tensor:
    positions = torch.arange(n_tokens).unsqueeze(0)
    return alibi_bias(alibi_slopes(n_heads), positions, positions)[0].tril()


penalties = Exercise(
    "alibi_penalties",
    chapter="04_architecture",
    notebook="04_positions",
    title="what ALiBi adds to the scores of every head",
    reference=_alibi_penalties,
    hints=(
        "Head h = 1 ... H falls by 2 ** (-8 h / H) a token: one slope a head.",
        "The distance of query t from key s is t - s; `clamp_min(0)` makes it 0 for later keys.",
        "`-slopes[:, None, None] * (t[:, None] - s[None, :]).clamp_min(0)`, shape [H, T, T].",
    ),
)


@penalties.check("4 heads, 5 tokens")
def _(answer: Any) -> None:
    penalties.agree(answer, 4, 5)


@penalties.check("16 heads, 3 tokens")
def _(answer: Any) -> None:
    penalties.agree(answer, 16, 3)


@penalties.check("one head")
def _(answer: Any) -> None:
    penalties.agree(answer, 1, 7)


@penalties.mistake("a penalty is below zero: yours *rewards* distance, so put a minus before it")
def _rewards(n_heads: int, n_tokens: int) -> Tensor:
    return -_alibi_penalties(n_heads, n_tokens)


@penalties.mistake("your heads start at h = 0, whose slope is 1; h runs from 1 to H")
def _from_zero(n_heads: int, n_tokens: int) -> Tensor:
    slopes = 2.0 ** (-8 * torch.arange(n_heads) / n_heads)
    t = torch.arange(n_tokens)
    return -slopes[:, None, None] * (t[:, None] - t).clamp_min(0)


@penalties.mistake(
    "your slopes are 1/2, 1/4, 1/8 ...: right for 8 heads only, since 8 is spread over H"
)
def _halves(n_heads: int, n_tokens: int) -> Tensor:
    slopes = 2.0 ** -torch.arange(1.0, n_heads + 1)
    t = torch.arange(n_tokens)
    return -slopes[:, None, None] * (t[:, None] - t).clamp_min(0)


@penalties.mistake("your rows are keys and your columns queries: the scores are [query, key]")
def _transposed(n_heads: int, n_tokens: int) -> Tensor:
    return _alibi_penalties(n_heads, n_tokens).mT


@penalties.mistake("later keys have a distance below zero, which becomes a reward: clamp it at 0")
def _not_clamped(n_heads: int, n_tokens: int) -> Tensor:
    t = torch.arange(n_tokens)
    return -alibi_slopes(n_heads)[:, None, None] * (t[:, None] - t)


# RoPE


def _rotate_by_position(x: Tensor, theta: float) -> Tensor:
    angles = rope_angles(torch.arange(len(x)).unsqueeze(0), rope_frequencies(x.shape[1], theta))
    return rotate(x[None, :, None], *angles)[0, :, 0]


rotated = Exercise(
    "rotate_by_position",
    chapter="04_architecture",
    notebook="04_positions",
    title="RoPE on the vectors of one head",
    points=2,
    reference=_rotate_by_position,
    hints=(
        "K / 2 pairs: component i with component i + K / 2. Pair i turns by theta ** (-2 i / K) "
        "a token.",
        "The angles are `positions[:, None] * frequencies`, [T, K / 2]; take cosine and sine.",
        "`a, b = x.chunk(2, dim=-1)`, then concatenate `a cos - b sin` and `b cos + a sin`.",
    ),
)


@rotated.check("5 tokens, K = 8, theta = 10,000")
def _(answer: Any) -> None:
    rotated.agree(answer, _random(5, 8), 10_000.0)


@rotated.check("7 tokens, K = 2, theta = 100: a single pair")
def _(answer: Any) -> None:
    rotated.agree(answer, _random(7, 2), 100.0)


@rotated.check("3 tokens, K = 6, theta = 500")
def _(answer: Any) -> None:
    rotated.agree(answer, _random(3, 6), 500.0)


@rotated.mistake("you paired neighbors as the paper does; here, as in LLaMA, i goes with i + K / 2")
def _neighbors(x: Tensor, theta: float) -> Tensor:
    split = torch.cat((x[:, 0::2], x[:, 1::2]), dim=1)
    halves = _rotate_by_position(split, theta).chunk(2, dim=1)
    return torch.stack(halves, dim=-1).flatten(1)


@rotated.mistake("you turn the wrong way round: check the signs of the two sines")
def _backwards(x: Tensor, theta: float) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return torch.cat(_rotate_by_position(torch.cat((second, first), 1), theta).chunk(2, 1)[::-1], 1)


@rotated.mistake("positions count from 0: the first token is not turned at all")
def _from_one(x: Tensor, theta: float) -> Tensor:
    return _rotate_by_position(torch.cat((x[:1], x)), theta)[1:]


@rotated.mistake("your frequencies fall half as fast: the exponent is -2 i / K for pair i")
def _half_exponent(x: Tensor, theta: float) -> Tensor:
    return _rotate_by_position(x, theta**0.5)


# Scores by distance


def _align_distances(by_distance: Tensor) -> Tensor:
    t = torch.arange(by_distance.shape[-1])
    columns = (t[:, None] - t).clamp_min(0).expand_as(by_distance)
    return by_distance.gather(-1, columns).tril()


aligned = Exercise(
    "align_distances",
    chapter="04_architecture",
    notebook="04_positions",
    title="from one score a distance to one a key, without a loop",
    points=3,
    reference=_align_distances,
    hints=(
        "Key s of query t takes the score of distance t - s. Write down which column that is.",
        "`by_distance.gather(-1, columns)` picks by an index of the same shape; no index may be "
        "below zero.",
        "columns[t, s] = max(t - s, 0), expanded to the batch; `tril()` clears the later keys.",
    ),
)


@aligned.check("4 tokens")
def _(answer: Any) -> None:
    aligned.agree(answer, _random(4, 4))


@aligned.check("2 texts with 3 heads, 7 tokens")
def _(answer: Any) -> None:
    aligned.agree(answer, _random(2, 3, 7, 7))


@aligned.mistake("the diagonal should hold each query's distance 0; your columns did not move")
def _unmoved(by_distance: Tensor) -> Tensor:
    return by_distance.tril()


@aligned.mistake("every row moved equally: the shift has to grow by one from row to row")
def _flipped(by_distance: Tensor) -> Tensor:
    return by_distance.flip(-1).tril()


@aligned.mistake("right up to the diagonal, but later keys must be 0: a causal mask hides them")
def _not_cleared(by_distance: Tensor) -> Tensor:
    t = torch.arange(by_distance.shape[-1])
    return by_distance.gather(-1, (t[:, None] - t).clamp_min(0).expand_as(by_distance))


@aligned.mistake("your columns are s - t, the key minus the query; a distance back is t - s")
def _wrong_sign(by_distance: Tensor) -> Tensor:
    t = torch.arange(by_distance.shape[-1])
    return by_distance.gather(-1, (t - t[:, None]).clamp_min(0).expand_as(by_distance)).tril()
