"""Checks of the exercises of chapters/05_training/09_pipelines.ipynb."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "05_training/09_pipelines"

# As many micro-batches as an idle share allows


def _enough_micro_batches(
    stages: int,
    chunks: int,
    idle: float,
    *,
    whole: Callable[[float], int] = math.ceil,
    laps: bool = True,
    of_the_work: bool = False,
    laps_only: bool = False,
) -> int:
    # (P - 1) / (v m + P - 1) <= idle
    most = (stages - 1) / idle if of_the_work else (stages - 1) * (1 - idle) / idle
    least = max(1, whole(round(most / (1 if laps_only else chunks), 9)))
    return math.ceil(least / stages) * stages if laps and chunks > 1 else least


enough_micro_batches = Exercise(
    "enough_micro_batches",
    title="how many micro-batches keep a pipeline busy",
    reference=_enough_micro_batches,
    hints=(
        "With m micro-batches and v chunks the idle share is (P - 1) / (v m + P - 1).",
        "Solve for m and round up: with one fewer the share is too large.",
        "Laps need whole rounds of the stages: with more than one chunk, m is a multiple of P.",
    ),
    cases={
        "5 stages, 15 percent": args(5, 1, 0.15),
        "12 stages, a twelfth of the time, exactly": args(12, 1, 1 / 12),
        "one stage is never idle": args(1, 1, 0.05),
        "two chunks": args(4, 2, 0.1),
        "eight chunks on 16 stages": args(16, 8, 0.02),
        "a lax share": args(3, 1, 0.9),
    },
    mistakes={
        "a share of the whole step is asked for, not of the work: m + P - 1 is the whole": (
            lambda *a: _enough_micro_batches(*a, of_the_work=True)
        ),
        "chunks divide the bubble: v m stands where m stood": (
            lambda stages, chunks, idle: _enough_micro_batches(stages, chunks, idle, laps_only=True)
        ),
        "round up: with one micro-batch fewer the share is too large": (
            lambda *a: _enough_micro_batches(*a, whole=math.floor)
        ),
        "with several chunks the micro-batches go round in laps: give a multiple of P": (
            lambda *a: _enough_micro_batches(*a, laps=False)
        ),
    },
)


# GPipe's step when sending takes time


def _step_with_sends(
    stages: int,
    micro_batches: int,
    forward: float,
    backward: float,
    send: float,
    *,
    blocks: bool = False,
    ways: int = 2,
    hops: int = -1,
) -> float:
    each = forward + backward
    sends = (stages - 1 if hops < 0 else hops) * ways * send
    if blocks:
        sends = (micro_batches + stages - 2) * ways * send
    return (micro_batches + stages - 1) * each + sends


step_with_sends = Exercise(
    "step_with_sends",
    title="a step of GPipe over a slow network",
    points=2,
    reference=lambda *a: _step_with_sends(*a),
    hints=(
        "Follow the first micro-batch to the last stage: P passes and P - 1 sends.",
        "From then on the last stage always has the next micro-batch at hand: its neighbour "
        "sends one while it works on another.",
        "Forward (P - 1)(F + s) + m F, and the same backward with B.",
    ),
    cases={
        "3 stages, 4 micro-batches": args(3, 4, 1.0, 2.0, 0.5),
        "no time to send: the formula of the bubble": args(5, 7, 1.0, 2.0, 0.0),
        "one stage sends nothing": args(1, 6, 1.0, 2.0, 0.25),
        "one micro-batch": args(4, 1, 1.0, 2.0, 0.25),
        "many": args(8, 64, 0.5, 1.25, 0.125),
    },
    mistakes={
        "a stage works on while its tensor travels: only the first trip adds to the step": (
            lambda *a: _step_with_sends(*a, blocks=True)
        ),
        "gradients travel back as well": lambda *a: _step_with_sends(*a, ways=1),
        "P stages have P - 1 borders": lambda *a: _step_with_sends(*a, hops=a[0]),
        "the tensors take `send` seconds to arrive": lambda p, m, f, b, _: _step_with_sends(
            p, m, f, b, 0.0
        ),
    },
)


# Where to cut layers that do not take the same time


def _slowest_stage(seconds: Sequence[float], stages: int) -> float:
    @cache
    def best(start: int, left: int) -> float:
        if left == 1:
            return sum(seconds[start:])
        ends = range(start + 1, len(seconds) - left + 2)
        return min(max(sum(seconds[start:end]), best(end, left - 1)) for end in ends)

    return best(0, stages)


def _equal_counts(seconds: Sequence[float], stages: int) -> float:
    runs = torch.arange(len(seconds)).tensor_split(stages)
    return max(sum(seconds[i] for i in run.tolist()) for run in runs)


def _greedy(seconds: Sequence[float], stages: int) -> float:
    """Fill each stage until it has its share of the whole."""
    share, runs = sum(seconds) / stages, [0.0]
    for i, layer in enumerate(seconds):
        must = len(seconds) - i <= stages - len(runs)
        if runs[-1] and (must or runs[-1] + layer > share) and len(runs) < stages:
            runs.append(0.0)
        runs[-1] += layer
    return max(runs)


def _any_order(seconds: Sequence[float], stages: int) -> float:
    """Deal the longest layer to the least busy stage, as if layers could change places."""
    busy = [0.0] * stages
    for layer in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += layer
    return max(busy)


slowest_stage = Exercise(
    "slowest_stage",
    title="where to cut a model",
    points=3,
    reference=_slowest_stage,
    hints=(
        "A steady pipeline is as fast as its slowest stage. Stages are runs of neighbours, and "
        "each has a layer at least.",
        "Fix where the first stage ends; what is left is the same question with a stage fewer.",
        "best(start, n) = min over end of max(sum(seconds[start:end]), best(end, n - 1)).",
    ),
    cases={
        "six equal layers on three": args([2.0] * 6, 3),
        "a long last layer: an output matrix": args([1.0, 1.0, 1.0, 1.0, 3.0], 2),
        "a layer each": args([3.0, 1.0, 2.0], 3),
        "one stage has it all": args([3.0, 1.0, 2.0], 1),
        "filling up to the mean leaves too much at the end": args(
            [2.0, 5.0, 4.0, 6.0, 1.0, 7.0, 3.0, 8.0], 3
        ),
        "long and short ones in turn": args([9.0, 1.0, 1.0, 9.0, 1.0, 1.0, 9.0, 9.0], 4),
    },
    mistakes={
        "equal numbers of layers are not equal times": _equal_counts,
        "filling one stage after the other up to the mean can leave too much for the last": _greedy,
        "layers keep their order: a stage is a run of neighbours": _any_order,
        "the mean is a bound, which whole layers seldom reach": lambda s, n: sum(s) / n,
    },
)


# Two versions instead of P

Gradient = Callable[[Tensor, Tensor], Tensor]


def _double_buffered(
    weight: Tensor,
    gradient: Gradient,
    micro_batches: Tensor,
    together: int,
    rate: float,
    *,
    late: int = 1,
    summed: bool = False,
) -> Tensor:
    versions = [weight]
    for group in micro_batches.split(together):
        seen = versions[max(0, len(versions) - 1 - late)]
        each = torch.stack([gradient(seen, one) for one in group])
        step = each.sum(dim=0) if summed else each.mean(dim=0)
        versions.append(versions[-1] - rate * step)
    return versions[-1]


def _from_the_old_one(
    weight: Tensor, gradient: Gradient, micro_batches: Tensor, together: int, rate: float
) -> Tensor:
    before, now = weight, weight
    for group in micro_batches.split(together):
        each = torch.stack([gradient(before, one) for one in group])
        before, now = now, before - rate * each.mean(dim=0)
    return now


def _to_a_target(weight: Tensor, target: Tensor) -> Tensor:
    return weight - target


def _cubed(weight: Tensor, target: Tensor) -> Tensor:
    return (weight - target) ** 3


double_buffered = Exercise(
    "double_buffered",
    title="PipeDream with two versions",
    points=3,
    reference=lambda *a: _double_buffered(*a),
    hints=(
        "An update comes after `together` micro-batches, from the mean of their gradients.",
        "All of a group's gradients are taken where the weights were one update ago; the first "
        "two groups both see the start.",
        "w[t + 1] = w[t] - rate * mean gradient at w[max(0, t - 1)]: step from the newest.",
    ),
    cases={
        "one micro-batch an update": args(normal(3), _to_a_target, normal(5, 3, seed=1), 1, 0.5),
        "groups of two": args(normal(3), _to_a_target, normal(6, 3, seed=2), 2, 0.5),
        "one group: nothing is late yet": args(normal(2), _cubed, normal(4, 2, seed=3), 4, 0.1),
        "a gradient that is no straight line": args(
            normal(2), _cubed, normal(6, 2, seed=4), 3, 0.02
        ),
    },
    mistakes={
        "these gradients are of the newest weights; the pipeline has not seen them yet": (
            lambda *a: _double_buffered(*a, late=0)
        ),
        "one update late, not two": lambda *a: _double_buffered(*a, late=2),
        "an update takes the mean of its micro-batches' gradients": (
            lambda *a: _double_buffered(*a, summed=True)
        ),
        "the old weights are where the gradient is taken, not where the step starts": (
            _from_the_old_one
        ),
    },
)
