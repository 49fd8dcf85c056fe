"""Checks of the exercises of chapters/05_training/07_data_parallel_and_zero.ipynb."""

import math

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "05_training/07_data_parallel_and_zero"

# What a mean is multiplied by where the framework averages

Counts = list[list[int]]


def _loss_scales(counts: Counts, *, ranks: bool = True, within: str = "all") -> list[list[float]]:
    total = sum(map(sum, counts))
    factor = len(counts) if ranks else 1
    if within == "rank":
        return [[n / sum(own) for n in own] for own in counts]
    if within == "equal":
        return [[1 / len(own) for _ in own] for own in counts]
    if within == "sums":
        return [[factor / total for _ in own] for own in counts]
    return [[factor * n / total for n in own] for own in counts]


loss_scales = Exercise(
    "loss_scales",
    title="a mean over all targets under a framework that averages",
    reference=_loss_scales,
    hints=(
        "Write down the gradient that you want: the sum over all targets of all processes, "
        "divided by how many they are.",
        "The mean over n targets, multiplied by n, is their sum. Divide by the total of all.",
        "The framework divides by the number of processes afterwards: multiply by it before.",
    ),
    cases={
        "two micro-batches a process": args([[3, 5], [2, 10]]),
        "two processes with one micro-batch each": args([[6], [2]]),
        "equal counts: one each": args([[5], [5], [5]]),
        "a micro-batch without targets": args([[0, 4], [3, 1], [7, 2]]),
        "processes with unequal numbers of micro-batches": args([[3, 1, 1], [2]]),
    },
    mistakes={
        "the framework divides by the number of processes: make up for it": (
            lambda counts: _loss_scales(counts, ranks=False)
        ),
        "the total is that of all processes, not of the own micro-batches": (
            lambda counts: _loss_scales(counts, within="rank")
        ),
        "that is a mean of means: a micro-batch with few targets counts as much as a full one": (
            lambda counts: _loss_scales(counts, within="equal")
        ),
        "each loss is a mean over its own targets already: multiply by their number first": (
            lambda counts: _loss_scales(counts, within="sums")
        ),
    },
)


# How many processes a model needs


def _fewest_processes(
    parameters: int,
    memory: int,
    stage: int,
    *,
    low: int = 2,
    state: int = 12,
    whole: bool = True,
    shift: int = 0,
) -> int | None:
    # What every process keeps, and what all share, in bytes a parameter.
    kept = [2 * low + state, 2 * low, low, 0][stage + shift] * parameters
    shared = (2 * low + state) * parameters - kept
    if kept + shared <= memory:
        return 1
    if kept >= memory or not shared:
        return None
    needed = shared / (memory - kept)
    return math.ceil(needed) if whole else max(1, int(needed))


fewest_processes = Exercise(
    "fewest_processes",
    title="how many processes a model in two bytes needs",
    points=2,
    reference=_fewest_processes,
    hints=(
        "Two bytes for a parameter, two for its gradient, twelve of Adam's: a float32 copy and two "
        "moments. Which of them does the stage share out?",
        "kept + shared / P <= memory is an inequality in P. Where kept alone is as much as the "
        "memory, and something is shared, no P is enough.",
        "Kept bytes a parameter: 16, 4, 2 and 0 in stages 0 to 3. Round P up; it is at least 1.",
    ),
    cases={
        "a billion parameters, 10 GB, stage 1": args(10**9, 10**10, 1),
        "7.5 billion parameters, 32 GB, stage 1": args(7_500_000_000, 32 * 10**9, 1),
        "the same in stage 2": args(7_500_000_000, 32 * 10**9, 2),
        "the same in stage 3": args(7_500_000_000, 32 * 10**9, 3),
        "without ZeRO no number helps": args(7_500_000_000, 32 * 10**9, 0),
        "parameters alone are too many": args(175 * 10**9, 80 * 10**9, 2),
        "stage 3 always finds one": args(175 * 10**9, 80 * 10**9, 3),
        "small enough for one": args(10**9, 16 * 10**9, 0),
        "exactly full": args(10**6, 4 * 10**6, 3),
        "what is kept fills the memory": args(10**6, 4 * 10**6, 1),
    },
    mistakes={
        "parameters and gradients have two bytes here, not four": (
            lambda n, memory, stage: _fewest_processes(n, memory, stage, low=4, state=8)
        ),
        "Adam keeps a float32 copy of the parameters besides its two moments: twelve bytes": (
            lambda n, memory, stage: _fewest_processes(n, memory, stage, state=8)
        ),
        "round up: with a process less it does not fit": (
            lambda n, memory, stage: _fewest_processes(n, memory, stage, whole=False)
        ),
        "stage 1 shares the optimizer's state, stage 2 the gradients too, stage 3 all": (
            lambda n, memory, stage: _fewest_processes(
                n, memory, stage, shift=-1 if stage else 0
            )
        ),
    },
)  # fmt: skip


# The outer step with its momentum


def _outer_step(
    shared: Tensor,
    workers: Tensor,
    velocity: Tensor,
    lr: float,
    momentum: float,
    *,
    sign: float = 1.0,
    nesterov: bool = True,
    mean: bool = True,
    damped: bool = False,
) -> tuple[Tensor, Tensor]:
    changes = shared - workers
    gradient = sign * (changes.mean(0) if mean else changes.sum(0))
    velocity = momentum * velocity + (1 - momentum if damped else 1) * gradient
    step = gradient + momentum * velocity if nesterov else velocity
    return shared - lr * step, velocity


outer_step = Exercise(
    "outer_step",
    title="DiLoCo's outer step, momentum and all",
    points=2,
    reference=_outer_step,
    hints=(
        "The gradient points from where the workers are to where they were: shared less the mean "
        "of the workers.",
        "The velocity is momentum times the old one plus the gradient. Nesterov's step looks ahead "
        "from the gradient along the new velocity.",
        "`step = gradient + momentum * velocity`, then `shared - lr * step`; return both.",
    ),
    cases={
        "a plain average: rate 1, no momentum": args(
            normal(5).double(), normal(3, 5, seed=1).double(), torch.zeros(5).double(), 1.0, 0.0
        ),
        "the first meeting with the paper's settings": args(
            normal(7).double(), normal(2, 7, seed=2).double(), torch.zeros(7).double(), 0.7, 0.9
        ),
        "a later meeting": args(
            normal(7).double(), normal(4, 7, seed=3).double(), normal(7, seed=4).double(), 0.7, 0.9
        ),
        "workers that stayed: the velocity carries on": args(
            normal(3).double(), normal(3).double().repeat(2, 1), torch.ones(3).double(), 0.5, 0.8
        ),
    },
    mistakes={
        "this goes against the workers: the gradient is before less after": (
            lambda *a: _outer_step(*a, sign=-1.0)
        ),
        "that is momentum without Nesterov's look ahead": (
            lambda *a: _outer_step(*a, nesterov=False)
        ),
        "the changes are averaged over the workers, not added up": (
            lambda *a: _outer_step(*a, mean=False)
        ),
        "the gradient enters the velocity whole, as in torch's SGD": (
            lambda *a: _outer_step(*a, damped=True)
        ),
        "return the new velocity too: the next meeting needs it": (
            lambda *a: (_outer_step(*a)[0], a[2])
        ),
    },
)


# When a step ends whose buckets travel while it computes

Layer = tuple[float, int]


def _overlapped_seconds(
    layers: list[Layer],
    bucket_bytes: int,
    latency: float,
    bandwidth: float,
    *,
    rest: bool = True,
    queue: bool = True,
    overlap: bool = True,
    gathers: bool = True,
    latencies: bool = True,
) -> float:
    now, free, filled, ends = 0.0, 0.0, 0, [0.0]
    compute = sum(seconds for seconds, _ in layers)
    for place, (seconds, size) in enumerate(layers):
        now += seconds
        filled += size
        last = place == len(layers) - 1
        full = filled >= bucket_bytes if gathers else True
        if full or (last and rest and filled):
            begins = now if overlap else compute
            begins = max(begins, free) if queue else begins
            free = begins + (latency if latencies else 0.0) + filled / bandwidth
            ends.append(free)
            filled = 0
    return max(compute, *ends)


_EVEN: list[Layer] = [(3.0, 40)] * 5

overlapped_seconds = Exercise(
    "overlapped_seconds",
    title="when a backward pass with buckets ends",
    points=3,
    reference=_overlapped_seconds,
    hints=(
        "Keep two clocks: when the backward pass is done with this layer, and when the wire is "
        "free again.",
        "A bucket is sent when it has reached its size, or after the last layer. It starts at the "
        "later of the two clocks.",
        "`free = max(now, free) + latency + filled / bandwidth`, and the step ends at the later of "
        "the two clocks at last.",
    ),
    cases={
        "a bucket a layer, a fast wire": args(_EVEN, 40, 0.0, 20.0),
        "one bucket for all": args(_EVEN, 10**6, 0.0, 20.0),
        "a slow wire: buckets wait for each other": args(_EVEN, 40, 0.0, 8.0),
        "messages cost a start each": args(_EVEN, 80, 1.5, 20.0),
        "unequal layers, and a bucket that is not full at the end": args(
            [(1.0, 30), (2.0, 50), (0.5, 20), (4.0, 10)], 60, 0.5, 10.0
        ),
        "one layer larger than a bucket": args([(1.0, 500), (1.0, 5)], 50, 0.0, 100.0),
        "a last layer without parameters": args([(1.0, 60), (5.0, 0)], 60, 0.0, 60.0),
    },
    mistakes={
        "what is left after the last layer has to travel too": (
            lambda *a: _overlapped_seconds(*a, rest=False)
        ),
        "one wire: a bucket waits until the one before it has arrived": (
            lambda *a: _overlapped_seconds(*a, queue=False)
        ),
        "a full bucket leaves while the layers below compute, not after all of them": (
            lambda *a: _overlapped_seconds(*a, overlap=False)
        ),
        "layers are collected until the bucket has reached its size": (
            lambda *a: _overlapped_seconds(*a, gathers=False)
        ),
        "each bucket costs the latency once": lambda *a: _overlapped_seconds(*a, latencies=False),
    },
)
