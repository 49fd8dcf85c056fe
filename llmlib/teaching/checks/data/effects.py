"""Checks of the exercises of chapters/03_data/09_what_data_does.ipynb."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from llmlib.teaching.authoring import Args, Exercise, args, uniform

NOTEBOOK = "03_data/09_what_data_does"

_HALF_LIFE = 15.4

# What repeated tokens are worth


def _worth_of_repeats(unique: float, read: float) -> float:
    return min(unique, read) + unique * _repeats_worth(max(0.0, read / unique - 1))


def _repeats_worth(repeats: float) -> float:
    return _HALF_LIFE * (1 - math.exp(-repeats / _HALF_LIFE))


worth = Exercise(
    "worth_of_repeats",
    title="the fresh tokens that repeated ones are worth",
    reference=_worth_of_repeats,
    hints=(
        "The first reading of every token counts in full. What comes after it is repeats.",
        "`repeats = read / unique - 1`, and none if less is read than there is.",
        "`min(unique, read) + unique * 15.4 * (1 - math.exp(-repeats / 15.4))`.",
    ),
    cases={
        "a million tokens, read once": args(1e6, 1e6),
        "a million tokens, read four times": args(1e6, 4e6),
        "2 billion tokens, read 300 times": args(2e9, 6e11),
        "more tokens than are read": args(5e6, 2e6),
    },
    mistakes={
        "the exponent takes the repeats, which is the number of epochs less one": (
            lambda unique, read: unique + unique * _repeats_worth(read / unique)
        ),
        "the first reading is missing: it counts in full": (
            lambda unique, read: _worth_of_repeats(unique, read) - min(unique, read)
        ),
        "you counted every token that is read: "
        "the later the reading, the less it is worth": lambda unique, read: read,
        "you counted every token once: "
        "the first repeats are worth nearly as much as fresh text": lambda *tokens: min(tokens),
        "where less is read than there is, nothing is repeated: the worth is what was read": (
            lambda unique, read: unique + unique * _repeats_worth(read / unique - 1)
        ),
        "where less is read than there is, the worth is what was read, not what there is": (
            lambda unique, read: _worth_of_repeats(unique, max(unique, read))
        ),
        "the 15.4 stands twice, before the bracket and below the repeats": lambda unique, read: (
            min(unique, read) + unique * _repeats_worth(max(0.0, read / unique - 1)) / _HALF_LIFE
        ),
    },
)


# The second time


def _mean_from(losses: Tensor, after: int = 0) -> Tensor:
    """Average the second passage's losses, from `after` columns behind its first token on."""
    return losses[:, (losses.shape[1] + 1) // 2 + after :].mean()


def _score(after_itself: Tensor, after_another: Tensor) -> Tensor:
    return _mean_from(after_another) - _mean_from(after_itself)


def _losses(n: int, half: int, seed: int) -> Tensor:
    losses = uniform(n, 2 * half - 1, seed=seed) + 4
    losses[:, half:] -= seed
    return losses


def _with_the_first_time(after_itself: Tensor, after_another: Tensor) -> Tensor:
    half = (after_itself.shape[1] + 1) // 2
    return after_itself[:, : half - 1].mean() - after_itself[:, half:].mean()


copying_gain = Exercise(
    "copying_score",
    title="how much less a passage costs right after itself",
    points=2,
    reference=_score,
    hints=(
        "Of two passages of T tokens there are 2T - 1 losses: T - 1 of the first, then T of the "
        "second.",
        "The first loss of the second passage belongs to its first token, which nobody could know. "
        "Leave it out.",
        "`T = (after_itself.shape[1] + 1) // 2`; the mean over columns from T on, of each.",
    ),
    cases={
        "one passage of three tokens": args(
            torch.tensor([[5.0, 4, 8, 1, 2]]), torch.tensor([[6.0, 3, 7, 4, 7]])
        ),
        "11 passages of 7 tokens": args(_losses(11, 7, 2), _losses(11, 7, 0)),
        "a model that gets worse the second time": args(_losses(5, 13, 1), _losses(5, 13, 3)),
    },
    mistakes={
        "the sign: positive where a passage costs less after itself": lambda a, b: _score(b, a),
        "the first token of the second passage is in it, which nobody could know: "
        "begin one column later": lambda a, b: _mean_from(b, -1) - _mean_from(a, -1),
        "the first passages are in it, which copy nothing": lambda a, b: b.mean() - a.mean(),
        "a difference in nats is wanted, not a ratio": lambda a, b: _mean_from(b) / _mean_from(a),
        "compare with the same passage after another one, not with the passage before it: "
        "the later a token stands, the less it costs anyhow": _with_the_first_time,
    },
)


# The best mixture

_doubles = partial(torch.tensor, dtype=torch.float64)


def _best(
    floors: Tensor,
    slopes: Tensor,
    weights: Tensor,
    n: int,
    *,
    law: Callable[[Tensor], Tensor] = torch.exp,
    price: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
) -> Tensor:
    rows = [(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)]
    grid = _doubles(rows) / n
    return grid[price(floors + law(grid @ slopes.T), weights).argmin()]


def _case(seed: int, weights: list[float], n: int, third: list[float] | None = None) -> Args:
    drawn = uniform(12, seed=seed, dtype=torch.float64)
    slopes = 0.8 * drawn[3:].view(3, 3) - torch.diag(_doubles([3.0, 2.0, 1.0]))
    if third:
        slopes[2] = _doubles(third)
    return args(drawn[:3] + 1, slopes, _doubles(weights), n)


preferred_mixture = Exercise(
    "best_shares",
    title="the mixture that the fitted laws prefer",
    points=3,
    reference=_best,
    hints=(
        "All mixtures in steps of 1/n: `[(a, b, n - a - b) for a in range(n + 1) for b in "
        "range(n + 1 - a)]`, divided by n.",
        "`floors + torch.exp(grid @ slopes.T)` is `[points, 3]`: every domain's loss at every "
        "mixture.",
        "`grid[(losses @ weights).argmin()]`.",
    ),
    cases={
        "three domains that count alike": _case(0, [1 / 3, 1 / 3, 1 / 3], 20),
        "the second domain counts most": _case(1, [0.1, 0.7, 0.2], 20),
        "only the third, which the first helps": _case(2, [0.0, 0, 1], 10, third=[-0.6, 0.3, -0.9]),
    },
    mistakes={
        "row i of the slopes belongs to the loss on domain i: multiply by the transpose": (
            lambda floors, slopes, weights, n: _best(floors, slopes.T, weights, n)
        ),
        "the weights of the domains are not in it": (
            lambda floors, slopes, _, n: _best(floors, slopes, torch.ones_like(floors), n)
        ),
        "look for the smallest loss, not the largest": partial(_best, price=lambda x, w: -(x @ w)),
        "return the shares, which sum to one, and not n-ths of them": (
            lambda floors, slopes, weights, n: n * _best(floors, slopes, weights, n)
        ),
        "without the exponential a straight line prefers a corner": partial(_best, law=lambda x: x),
        "you minimized the worst domain's loss; the weighted sum is asked for": partial(
            _best, price=lambda x, _: x.amax(dim=1)
        ),
    },
)
