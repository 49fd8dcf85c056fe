"""Checks of the exercises of chapters/05_training/03_stability.ipynb."""

import math
import operator
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from llmlib.teaching.answers.measured import differentiates
from llmlib.teaching.authoring import Exercise, args, expect, normal

NOTEBOOK = "05_training/03_stability"

# How long Adam's denominator remembers a spike


def _slow_steps(size: float, beta2: float, share: float) -> int:
    excess = (1 - beta2) * (size**2 - 1)  # of v over 1, at the spike itself
    allowed = 1 / share**2 - 1
    return 0 if excess <= allowed else math.ceil(math.log(allowed / excess) / math.log(beta2))


slow_steps = Exercise(
    "slow_steps",
    title="how long the second moment remembers a spike",
    reference=_slow_steps,
    hints=(
        "Before the spike v is 1. The spike makes it beta2 + (1 - beta2) size^2; every later "
        "gradient is 1 again. Follow v - 1: each step leaves it multiplied by beta2.",
        "A step of Adam is divided by the root of v, so it is back to the share s of its usual "
        "size once v is at most 1 / s^2.",
        "v - 1 is (1 - beta2)(size^2 - 1) beta2^k after k more steps: solve for k and round up; 0 "
        "if it was never above 1 / s^2 - 1.",
    ),
    cases={
        "a spike of 30 times, beta2 0.95, back to half": args(30.0, 0.95, 0.5),
        "the same with beta2 0.999": args(30.0, 0.999, 0.5),
        "back to nine tenths": args(30.0, 0.95, 0.9),
        "so small that it never falls below the share": args(1.5, 0.99, 0.5),
        "a thousand times": args(1000.0, 0.95, 0.5),
    },
    mistakes={
        "a step is divided by the root of v: it is back to the share s when v is 1 / s^2": (
            lambda size, beta2, share: _slow_steps(size, beta2, share**0.5)
        ),
        "the spike enters v squared": (
            lambda size, beta2, share: _slow_steps(math.sqrt(size), beta2, share)
        ),
        "the spike enters v with the weight 1 - beta2": (
            lambda size, beta2, share: _slow_steps(
                math.sqrt(1 + (size**2 - 1) / (1 - beta2)), beta2, share
            )
        ),
        "a spike too small to matter needs 0 steps, not a negative number": (
            lambda size, beta2, share: math.ceil(
                math.log((1 / share**2 - 1) / ((1 - beta2) * (size**2 - 1))) / math.log(beta2)
            )
        ),
        "steps are whole: round up, after fewer it is not back yet": (
            lambda size, beta2, share: max(0, _slow_steps(size, beta2, share) - 1)
        ),
        "one step too many: the spike's own step counts as 0": (
            lambda size, beta2, share: _slow_steps(size, beta2, share) + 1
        ),
        "the gradients behind the spike are 1: v falls to 1 and not to 0": (
            lambda size, beta2, share: max(
                0, math.ceil(-math.log((1 - beta2) * size**2 * share**2) / math.log(beta2))
            )
        ),
    },
)


# Clipping each row by the size of its weights


def _by_rows(
    weight: Tensor,
    gradient: Tensor,
    limit: float,
    floor: float = 1e-3,
    *,
    dim: int = 1,
    always: bool = False,
    scale: float = 1.0,
) -> Tensor:
    size = (scale * weight.norm(dim=dim, keepdim=True)).clamp_min(floor)
    norm = gradient.norm(dim=dim, keepdim=True)
    factor = limit * size / norm.clamp_min(1e-12)
    return gradient * (factor if always else factor.clamp_max(1.0))


_WEIGHT = torch.tensor([1.0, 0.2, 5.0, 0.0])[:, None] * normal(4, 7)
_GRADIENT = torch.tensor([0.01, 3.0, 0.02, 0.5])[:, None] * normal(4, 7, seed=1)

clip_rows = Exercise(
    "clip_rows",
    title="each row clipped by the size of its own weights",
    points=2,
    reference=_by_rows,
    hints=(
        "Every row of the matrix has a norm of its own, of the weights and of the gradient: "
        "`norm(dim=1, keepdim=True)`.",
        "A row's gradient may have at most `limit` times the norm of its weights, which counts as "
        "at least `floor`.",
        "Multiply by `(limit * size / norm).clamp_max(1)`, and mind a row whose gradient is zero.",
    ),
    cases={
        "four rows, two of them too large": args(_WEIGHT, _GRADIENT, 0.1, 1e-3),
        "a row of zero weights counts as the floor": args(
            torch.zeros(2, 3), normal(2, 3), 0.1, 0.01
        ),
        "a row of zero gradient stays": args(
            normal(2, 3), torch.tensor([[0.0, 0, 0], [1, 2, 3]]), 0.1, 1e-3
        ),
        "nothing to clip": args(10 * normal(3, 5), 0.01 * normal(3, 5, seed=2), 0.5, 1e-3),
        "11 rows": args(normal(11, 5), normal(11, 5, seed=3), 0.3, 1e-3),
    },
    mistakes={
        "these are columns: a row holds what flows into one unit, `dim=1`": partial(
            _by_rows, dim=0
        ),
        "all rows have one factor here; each has its own": (
            lambda weight, gradient, limit, floor: (
                gradient * (limit * weight.norm().clamp_min(floor) / gradient.norm()).clamp_max(1.0)
            )
        ),
        "rows below the limit are stretched up to it: the factor is at most 1": partial(
            _by_rows, always=True
        ),
        "weights near zero would never move: their norm counts as `floor` at least": (
            lambda weight, gradient, limit, floor: _by_rows(weight, gradient, limit, 1e-12)
        ),
        "`floor` stands for the norm of the weights, before `limit` multiplies it": (
            lambda weight, gradient, limit, floor: _by_rows(
                weight, gradient, 1.0, floor, scale=limit
            )
        ),
        "the gradient's norm is compared with the limit alone, without the size of the weights": (
            lambda weight, gradient, limit, floor: _by_rows(
                torch.ones_like(weight) / math.sqrt(weight.shape[1]), gradient, limit, floor
            )
        ),
    },
)


# A detector that waits


def _first_signs(
    losses: Sequence[float],
    window: int,
    rise: float,
    patience: int,
    *,
    when: str = "first",
    reset: bool = True,
    learns: str = "usual",
    at_once: bool = True,
    middle: Callable[[list[float]], float] = statistics.median,
    is_above: Callable[[float, float], bool] = operator.gt,
    last: bool = True,
) -> list[int]:
    usual, waiting, found = list[float](), list[int](), list[int]()
    for step, loss in enumerate(losses):
        is_full = len(usual) >= window
        high = (at_once or is_full) and math.isnan(loss)
        if is_full and not high:
            high = is_above(loss, middle(usual[-window:] if last else usual) + rise)
        if high:
            waiting.append(step)
            if len(waiting) == patience:
                found.append(waiting[0] if when == "first" else step)
        else:
            if learns == "short rows" and len(waiting) < patience:
                usual += [losses[one] for one in waiting]
            if reset:
                waiting.clear()
        if not high or learns == "all":
            usual.append(loss)
    return found


_QUIET = [3.0, 3.1, 2.9, 3.0, 3.05]
_NAN = math.nan

first_signs = Exercise(
    "first_signs",
    title="a detector with patience",
    points=3,
    reference=_first_signs,
    hints=(
        "Keep two lists: the last `window` usual losses, and the steps of the high ones that came "
        "one after the other.",
        "A high loss never enters the usual ones; a usual loss ends the row of high ones.",
        "When the row reaches `patience`, report where it began, once; a loss that is not a number "
        "is high from the first step on: `math.isnan(loss)`.",
    ),
    cases={
        "one outlier is let by, three in a row are reported at the first": args(
            [*_QUIET, 9.0, 3.0, 3.1, 8.0, 8.5, 8.2, 3.0], 5, 1.0, 3
        ),
        "patience 1 reports each": args([*_QUIET, 9.0, 3.0, 9.0], 5, 1.0, 1),
        "a row longer than the window is one spike": args([*_QUIET, *[7.0] * 12, 3.0], 5, 1.0, 2),
        "losses that are no numbers": args([*_QUIET, _NAN, _NAN, 3.0], 5, 1.0, 2),
        "nothing before the window is full": args([9.0, 3.0, 9.0, 3.0], 5, 1.0, 1),
        "a curve that falls": args([5 - 0.1 * i for i in range(20)] + [4.2, 4.2], 4, 0.5, 2),
        "two that are not in a row": args([*_QUIET, 9.0, 3.0, 9.0, 3.0], 5, 1.0, 2),
        "a first window with an outlier": args([3.0, 9.0, 3.0, 3.0, 3.0, 4.5], 5, 1.0, 1),
        "a rise that is just allowed": args([3.0, 3.0, 3.0, 4.0, 4.5], 3, 1.0, 1),
        "two outliers, and then three": args([3.0, 3.0, 3.0, 9, 9, 3.0, 9, 9, 9], 3, 1.0, 3),
        "no number in the first window": args([3.0, _NAN, 3.1, 2.9, 3.0, 9.0], 3, 1.0, 1),
    },
    mistakes={
        "you report where patience ran out; to go back far enough one needs where the row began": (
            partial(_first_signs, when="last")
        ),
        "the high losses entered the window: a long spike becomes usual, and a second report or "
        "none follows": partial(_first_signs, learns="all"),
        "a usual loss in between ends the row: they must come one after the other": partial(
            _first_signs, reset=False
        ),
        "a loss that is no number compares as false with everything: ask `math.isnan(loss)`": (
            lambda losses, *rest: _first_signs([0.0 if x != x else x for x in losses], *rest)
        ),
        "a loss that is no number is high before the window is full, too, and never a usual one": (
            partial(_first_signs, at_once=False)
        ),
        "this is the mean of the window: one outlier moves it, and not the median": partial(
            _first_signs, middle=statistics.mean
        ),
        "a loss that lies exactly `rise` above the median is usual: high is what is above": partial(
            _first_signs, is_above=operator.ge
        ),
        "the median is of the last `window` usual losses, not of all": partial(
            _first_signs, last=False
        ),
        "a high loss is never a usual one, not even in a row too short to be a sign": partial(
            _first_signs, learns="short rows"
        ),
    },
)


# The z-loss of a vocabulary that lies in parts


def _by_parts(
    parts: Sequence[Tensor],
    *,
    separate: bool = False,
    shift: bool = True,
    of_all_rows: bool = False,
    inner: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    peak = torch.stack([part.amax(dim=-1) for part in parts]).amax(dim=0)
    if of_all_rows:
        peak = peak.max().expand_as(peak)
    if not shift:
        peak = torch.zeros_like(peak)
    sums = [(part - peak[:, None]).exp().sum(dim=-1) for part in parts]
    log_z = peak + torch.stack(sums).sum(dim=0).log()
    if separate:
        log_z = torch.stack([part.logsumexp(-1) for part in parts]).sum(dim=0)
    weight = 2 * log_z / len(log_z) if inner else 1 / len(log_z) * torch.ones_like(log_z)
    gradients = [weight[:, None] * (part - log_z[:, None]).exp() for part in parts]
    return log_z.square().mean(), gradients


def _differentiated(parts: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    with torch.enable_grad():
        leaves = [part.detach().requires_grad_() for part in parts]
        loss = torch.cat(leaves, dim=-1).logsumexp(-1).square().mean()
    return loss.detach(), list(torch.autograd.grad(loss, leaves))


_BY_TORCH = "the result is right, but torch differentiated for you; write the gradient out by hand"
_FAR = torch.tensor([[0.0], [-300.0]])
_TWO_PARTS = [normal(5, 7), normal(5, 3, seed=1)]

z_loss_of_parts = Exercise(
    "z_loss_of_parts",
    title="the z-loss of a vocabulary split over processes",
    points=4,
    reference=_by_parts,
    hints=(
        "log Z needs one sum over the whole vocabulary. Which two numbers a row must each part "
        "give to the others, so that nothing overflows?",
        "The largest logit of all parts, then each part's sum of exp(logit - largest): log Z is "
        "the largest plus the log of the sum of sums.",
        "The gradient at a part is 2 log Z / n times exp(part - log Z): softmax over the whole, "
        "not over the part.",
    ),
    cases={
        "two parts of one row": args([normal(1, 3), normal(1, 2, seed=1)]),
        "three parts of 5 rows": args([normal(5, 7), normal(5, 7, seed=1), normal(5, 3, seed=2)]),
        "one part": args([normal(3, 11)]),
        "logits of a hundred and more": args([100 + normal(2, 5), 130 + normal(2, 3, seed=1)]),
        "a part far below the other": args([normal(2, 5), normal(2, 3, seed=1) - 60]),
        "a row far below the other": args([_FAR + normal(2, 5), _FAR + normal(2, 3, seed=1)]),
        "no automatic differentiation": (
            lambda f: expect(not differentiates(f, _TWO_PARTS), _BY_TORCH)
        ),
    },
    mistakes={
        "Z is one sum over all parts; the log Z of parts do not add up": partial(
            _by_parts, separate=True
        ),
        "exp overflows: take the largest logit of all parts off before": partial(
            _by_parts, shift=False
        ),
        "the row with the largest logit decides for all rows: the others' exponentials vanish; "
        "each row has a largest logit of its own": partial(_by_parts, of_all_rows=True),
        _BY_TORCH: _differentiated,
        "the derivative of log^2 Z is 2 log Z times that of log Z": partial(_by_parts, inner=False),
        "the loss is a mean over rows: its gradient is divided by their number": (
            lambda parts: (
                _by_parts(parts)[0],
                [gradient * len(gradient) for gradient in _by_parts(parts)[1]],
            )
        ),
        "asked for is the mean over rows; yours is their sum": (
            lambda parts: (
                _by_parts(parts)[0] * len(parts[0]),
                [gradient * len(gradient) for gradient in _by_parts(parts)[1]],
            )
        ),
        "each part is normalized by itself; a row's probabilities add up to 1 over all parts": (
            lambda parts: (
                _by_parts(parts)[0],
                [
                    (2 * torch.cat(list(parts), -1).logsumexp(-1) / len(part))[:, None]
                    * part.softmax(-1)
                    for part in parts
                ],
            )
        ),
    },
)
