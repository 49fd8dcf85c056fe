"""Checks of the exercises of chapters/03_data/09_what_data_does.ipynb."""

import math
from typing import Any

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/09_what_data_does"

_HALF_LIFE = 15.4

# What repeated tokens are worth


def _worth_of_repeats(unique: float, read: float) -> float:
    repeats = max(0.0, read / unique - 1)
    return min(unique, read) + unique * _HALF_LIFE * (1 - math.exp(-repeats / _HALF_LIFE))


def _without_factor(unique: float, read: float) -> float:
    repeats = max(0.0, read / unique - 1)
    return min(unique, read) + unique * (1 - math.exp(-repeats / _HALF_LIFE))


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
        (
            "the exponent takes the repeats, which is the number of epochs less one"
        ): lambda unique, read: (
            unique + unique * _HALF_LIFE * (1 - math.exp(-read / unique / _HALF_LIFE))
        ),
        "the first reading is missing: it counts in full": lambda unique, read: (
            _worth_of_repeats(unique, read) - min(unique, read)
        ),
        (
            "you counted every token that is read: the later the reading, the less it is worth"
        ): lambda unique, read: read,
        (
            "you counted every token once: the first repeats are worth nearly as much as fresh text"
        ): lambda unique, read: min(unique, read),
        (
            "where less is read than there is, nothing is repeated: the worth is what was read"
        ): lambda unique, read: (
            unique + unique * _HALF_LIFE * (1 - math.exp(-(read / unique - 1) / _HALF_LIFE))
        ),
        (
            "where less is read than there is, the worth is what was read, not what there is"
        ): lambda unique, read: _worth_of_repeats(unique, max(unique, read)),
        "the 15.4 stands twice, before the bracket and below the repeats": _without_factor,
    },
)


# The second time


def _copying_score(after_itself: Tensor, after_another: Tensor) -> Tensor:
    half = (after_itself.shape[1] + 1) // 2
    return after_another[:, half:].mean() - after_itself[:, half:].mean()


def _losses(n: int, half: int, seed: int) -> Tensor:
    losses = torch.rand(n, 2 * half - 1, generator=torch.Generator().manual_seed(seed)) + 4
    losses[:, half:] -= seed
    return losses


def _one_passage_of(answer: Any) -> None:
    itself, another = [[5.0, 4.0, 8.0, 1.0, 2.0]], [[6.0, 3.0, 7.0, 4.0, 7.0]]
    copying.agree(answer, torch.tensor(itself), torch.tensor(another))


def _with_the_seam(after_itself: Tensor, after_another: Tensor) -> Tensor:
    half = (after_itself.shape[1] + 1) // 2 - 1
    return after_another[:, half:].mean() - after_itself[:, half:].mean()


def _ratio(after_itself: Tensor, after_another: Tensor) -> Tensor:
    half = (after_itself.shape[1] + 1) // 2
    return after_another[:, half:].mean() / after_itself[:, half:].mean()


def _with_the_first_time(after_itself: Tensor, after_another: Tensor) -> Tensor:
    half = (after_itself.shape[1] + 1) // 2
    return after_itself[:, : half - 1].mean() - after_itself[:, half:].mean()


copying = Exercise(
    "copying_score",
    title="how much less a passage costs right after itself",
    points=2,
    reference=_copying_score,
    hints=(
        "Of two passages of T tokens there are 2T - 1 losses: T - 1 of the first, then T of the "
        "second.",
        "The first loss of the second passage belongs to its first token, which nobody could know. "
        "Leave it out.",
        "`T = (after_itself.shape[1] + 1) // 2`; the mean over columns from T on, of each.",
    ),
    cases={
        "one passage of three tokens": _one_passage_of,
        "11 passages of 7 tokens": args(_losses(11, 7, 2), _losses(11, 7, 0)),
        "a model that gets worse the second time": args(_losses(5, 13, 1), _losses(5, 13, 3)),
    },
    mistakes={
        "the sign: positive where a passage costs less after itself": lambda after_itself, after_another: (
            -_copying_score(after_itself, after_another)
        ),
        (
            "the first token of the second passage is in it, which nobody could know: "
            "begin one column later"
        ): _with_the_seam,
        (
            "the first passages are in it: they differ, and copy nothing"
        ): lambda after_itself, after_another: after_another.mean() - after_itself.mean(),
        "a difference in nats is wanted, not a ratio": _ratio,
        (
            "compare with the same passage after another one, not with the passage before "
            "it: the later a token stands, the less it costs anyhow"
        ): _with_the_first_time,
    },
)


# The best mixture


def _grid(n: int) -> Tensor:
    rows = [(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)]
    return torch.tensor(rows, dtype=torch.float64) / n


def _best_shares(floors: Tensor, slopes: Tensor, weights: Tensor, n: int) -> Tensor:
    grid = _grid(n)
    losses = floors + torch.exp(grid @ slopes.T)
    return grid[(losses @ weights).argmin()]


def _law(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    floors = torch.rand(3, generator=generator, dtype=torch.float64) + 1
    slopes = torch.rand(3, 3, generator=generator, dtype=torch.float64) * 0.8
    return floors, slopes - torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))


def _three_domains_that(answer: Any) -> None:
    floors, slopes = _law(0)
    best.agree(answer, floors, slopes, torch.full((3,), 1 / 3, dtype=torch.float64), 20)


def _the_second_domain(answer: Any) -> None:
    floors, slopes = _law(1)
    best.agree(answer, floors, slopes, torch.tensor([0.1, 0.7, 0.2], dtype=torch.float64), 20)


def _only_the_third(answer: Any) -> None:
    floors, slopes = _law(2)
    slopes[2] = torch.tensor([-0.6, 0.3, -0.9])
    best.agree(answer, floors, slopes, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), 10)


def _worst(floors: Tensor, slopes: Tensor, weights: Tensor, n: int) -> Tensor:
    grid = _grid(n)
    return grid[((floors + torch.exp(grid @ slopes.T)) @ weights).argmax()]


def _straight(floors: Tensor, slopes: Tensor, weights: Tensor, n: int) -> Tensor:
    grid = _grid(n)
    return grid[((floors + grid @ slopes.T) @ weights).argmin()]


def _worst_domain(floors: Tensor, slopes: Tensor, weights: Tensor, n: int) -> Tensor:
    grid = _grid(n)
    losses = floors + torch.exp(grid @ slopes.T)
    return grid[losses.max(dim=1).values.argmin()]


best = Exercise(
    "best_shares",
    title="the mixture that the fitted laws prefer",
    points=3,
    reference=_best_shares,
    hints=(
        "All mixtures in steps of 1/n: `[(a, b, n - a - b) for a in range(n + 1) for b in "
        "range(n + 1 - a)]`, divided by n.",
        "`floors + torch.exp(grid @ slopes.T)` is `[points, 3]`: every domain's loss at every "
        "mixture.",
        "`grid[(losses @ weights).argmin()]`.",
    ),
    cases={
        "three domains that count alike": _three_domains_that,
        "the second domain counts most": _the_second_domain,
        "only the third counts, and the first helps it": _only_the_third,
    },
    mistakes={
        (
            "row i of the slopes belongs to the loss on domain i: multiply by the transpose"
        ): lambda floors, slopes, weights, n: _best_shares(floors, slopes.T, weights, n),
        "the weights of the domains are not in it": lambda floors, slopes, weights, n: _best_shares(
            floors, slopes, torch.ones_like(weights), n
        ),
        "that is the worst mixture: look for the smallest loss": _worst,
        "return the shares, which sum to one, and not n-ths of them": lambda floors, slopes, weights, n: (
            n * _best_shares(floors, slopes, weights, n)
        ),
        "the exponential is missing: a straight line always prefers a corner": _straight,
        "you minimized the worst domain's loss; the weighted sum is asked for": _worst_domain,
    },
)
