"""Checks of the exercises of chapters/05_training/01_the_loop.ipynb."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "05_training/01_the_loop"

# Weights of micro-batches when several processes average their gradients

Counts = Sequence[Sequence[int]]


def _weights(counts: Counts) -> list[list[float]]:
    total = sum(map(sum, counts))
    return [[len(counts) * n / total for n in own] for own in counts]


def _within_processes(counts: Counts) -> list[list[float]]:
    return [[n / max(1, sum(own)) for n in own] for own in counts]


process_weights = Exercise(
    "process_weights",
    title="micro-batches of several processes",
    reference=_weights,
    hints=(
        "The gradient that every process ends with is the sum of all weighted means over P.",
        "A micro-batch with n of N targets in all has to end with the share n / N.",
        "Multiply by the number of processes what the averaging will divide by it.",
    ),
    cases={
        "two processes, two micro-batches each": args([[3, 1], [2, 4]]),
        "equal counts": args([[5, 5], [5, 5]]),
        "a micro-batch without any target": args([[7, 0], [2, 4], [3, 1]]),
        "a process without any target": args([[0], [6]]),
        "one process": args([[2, 3, 6]]),
        "five processes": args([[11, 2], [3, 3], [1, 8], [13, 5], [4, 7]]),
    },
    mistakes={
        "averaging over the processes divides by their number: multiply by it first": (
            lambda counts: [[n / sum(map(sum, counts)) for n in own] for own in counts]
        ),
        "each process weighs by its own targets; one with few then counts as much as one with many:"
        " divide by the targets of all": _within_processes,
        "all micro-batches weigh the same here; their targets differ": (
            lambda counts: [[1 / len(own) for _ in own] for own in counts]
        ),
        "this would be right for sums; multiplied are means, so each count stands in its weight": (
            lambda counts: [[len(counts) / sum(map(sum, counts)) for _ in own] for own in counts]
        ),
        "the weights are counts still: divide by all targets": (
            lambda counts: [[float(n * len(counts)) for n in own] for own in counts]
        ),
    },
)

# A batch that is published in updates and sequences, as points in tokens

Stages = Sequence[tuple[int, int]]


def _points(stages: Stages, length: int) -> list[tuple[int, int]]:
    points, tokens = [(0, stages[0][1] * length)], 0
    for (start, size), (end, next_size) in pairwise(stages):
        tokens += (end - start) * size * length
        points.append((tokens, next_size * length))
    return points


def _with_the_next_batch(stages: Stages, length: int) -> list[tuple[int, int]]:
    points, tokens = [(0, stages[0][1] * length)], 0
    for (start, _), (end, next_size) in pairwise(stages):
        tokens += (end - start) * next_size * length
        points.append((tokens, next_size * length))
    return points


def _from_the_start(stages: Stages, length: int) -> list[tuple[int, int]]:
    ends = [(end * size * length, following * length)
            for (_, size), (end, following) in pairwise(stages)]  # fmt: skip
    return [(0, stages[0][1] * length), *ends]


stages_in_tokens = Exercise(
    "stages_in_tokens",
    title="a ramp from updates to tokens",
    reference=_points,
    hints=(
        "How many tokens does an update of the first stage read, and how many updates has it?",
        "Add up stage by stage: updates of the stage times its sequences times their length.",
        "`for (start, size), (end, next_size) in itertools.pairwise(stages)`",
    ),
    cases={
        "doubled once": args([(0, 2), (10, 4)], 3),
        "one stage": args([(0, 7)], 11),
        "as PaLM's": args([(0, 512), (50_000, 1024), (115_000, 2048)], 2048),
        "four stages": args([(0, 3), (2, 5), (9, 7), (10, 13)], 17),
        "a batch that shrinks again": args([(0, 4), (5, 8), (6, 2)], 19),
    },
    mistakes={
        "the updates before a change read the batch before it, not the one after": (
            _with_the_next_batch
        ),
        "the second change counts from the run's start as if no batch had been another: add up "
        "stage by stage": _from_the_start,
        "these are sequences: multiply by their length": lambda stages, length: _points(stages, 1),
        "the sizes are in sequences still; a point's batch is in tokens too": (
            lambda stages, length: [(n, size // length) for n, size in _points(stages, length)]
        ),
    },
)

# A branch off a stable run, decayed to nothing


def _branch(peak: float, at: int, decay: int) -> dict[int, float]:
    return {at + k: peak * (1 - (k / decay) ** 0.5) for k in range(1, decay + 1)}


decay_branch = Exercise(
    "decay_branch",
    title="a branch off a stable run",
    reference=_branch,
    hints=(
        "The checkpoint's own update was made at the peak: the branch begins with the next one.",
        "The k-th update of the branch has k / decay of its fall behind it.",
        "In the `sqrt` shape that share p leaves 1 - sqrt(p) of the peak.",
    ),
    cases={
        "four updates after the hundredth": args(4e-3, 100, 4),
        "one update only": args(1e-2, 7, 1),
        "from the very start": args(2.0, 0, 3),
        "thirteen": args(3e-4, 1009, 13),
    },
    mistakes={
        "the first rate is still the peak, and the last is not 0: the k-th of n updates has k / n "
        "of the fall behind it, k from 1": (
            lambda peak, at, decay: {
                at + k + 1: peak * (1 - (k / decay) ** 0.5) for k in range(decay)
            }
        ),
        "update numbers start again at 1; the branch goes on from its checkpoint": (
            lambda peak, at, decay: {
                k: peak * (1 - (k / decay) ** 0.5) for k in range(1, decay + 1)
            }
        ),
        "this is the straight line; the shape `sqrt` falls steeply first": (
            lambda peak, at, decay: {at + k: peak * (1 - k / decay) for k in range(1, decay + 1)}
        ),
        "this is the root of what is left; the shape takes the root of what is behind": (
            lambda peak, at, decay: {
                at + k: peak * (1 - k / decay) ** 0.5 for k in range(1, decay + 1)
            }
        ),
        "the first rate is still the peak: the k-th of n updates has k / n of the fall behind it": (
            lambda peak, at, decay: {
                at + k + 1: peak * (1 - (k / max(decay - 1, 1)) ** 0.5) for k in range(decay)
            }
        ),
        "these are factors: multiply by the peak": (
            lambda peak, at, decay: _branch(1.0, at, decay)
        ),
    },
)

# The critical batch from runs


def _fit(batches: Sequence[float], steps: Sequence[float]) -> tuple[float, float]:
    design = np.column_stack([np.ones(len(batches)), 1 / np.asarray(batches, dtype=float)])
    (least, examples), *_ = np.linalg.lstsq(design, np.asarray(steps, dtype=float), rcond=None)
    return float(least), float(examples / least)


def _against_batches(batches: Sequence[float], steps: Sequence[float]) -> tuple[float, float]:
    design = np.column_stack([np.ones(len(batches)), np.asarray(batches, dtype=float)])
    (least, slope), *_ = np.linalg.lstsq(design, np.asarray(steps, dtype=float), rcond=None)
    return float(least), float(slope / least)


def _in_examples(batches: Sequence[float], steps: Sequence[float]) -> tuple[float, float]:
    sizes = np.asarray(batches, dtype=float)
    least, examples = np.polyfit(sizes, sizes * np.asarray(steps, dtype=float), 1)
    return float(least), float(examples / least)


def _from_the_ends(batches: Sequence[float], steps: Sequence[float]) -> tuple[float, float]:
    pairs = sorted(zip(batches, steps, strict=True))
    return float(pairs[-1][1]), pairs[0][0] * pairs[0][1] / pairs[-1][1]


critical_batch = Exercise(
    "critical_batch",
    title="the critical batch from a few runs",
    reference=_fit,
    hints=(
        "Multiply the trade out: the steps are a straight line in 1 / B.",
        "Its height at 1 / B = 0 is the fewest steps; its slope is the fewest examples.",
        "`np.polyfit(1 / batches, steps, 1)` returns slope and height; divide one by the other.",
    ),
    cases={
        "on the curve": args([10.0, 40.0, 160.0], [1100.0, 350.0, 162.5]),
        "two runs": args([8.0, 64.0], [500.0, 100.0]),
        "with some noise": args([16, 32, 64, 128, 256], [2110, 1180, 610, 377, 251]),
        "in no order": args([64.0, 4.0, 512.0, 16.0], [91.0, 1040.0, 43.0, 293.0]),
    },
    mistakes={
        "that is the fewest examples; the critical batch is its ratio to the fewest steps": (
            lambda batches, steps: (
                _fit(batches, steps)[0],
                _fit(batches, steps)[0] * _fit(batches, steps)[1],
            )
        ),
        "steps are no straight line in the batch, but in one over the batch": _against_batches,
        "you fitted the examples, where large batches decide; the squares to be least are of the "
        "steps": _in_examples,
        "you took the extreme runs for the limits; the fewest steps lie below any run's, so fit all"
        " runs": _from_the_ends,
        "the two results are exchanged: fewest steps first": (
            lambda batches, steps: _fit(batches, steps)[::-1]
        ),
    },
)
