"""Checks of the exercises of chapters/05_training/10_the_engine.ipynb."""

import math
from collections.abc import Callable

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "05_training/10_the_engine"

# Layers that stages cannot share equally


def _uneven_share(layers: int, stages: int) -> float:
    return 1 - layers / (stages * math.ceil(layers / stages))


uneven_share = Exercise(
    "uneven_share",
    title="what unequal stages leave idle",
    reference=_uneven_share,
    hints=(
        "The fullest stage has ceil(L / p) layers, and all others wait for it.",
        "In the time of a step p stages could have done p * ceil(L / p) layers' work.",
        "They did L layers' work: the idle share is one minus the quotient.",
    ),
    cases={
        "70 layers on 12 stages": args(70, 12),
        "equal stages": args(96, 8),
        "one stage": args(7, 1),
        "one layer too many": args(33, 32),
    },
    mistakes={
        "the fullest stage has a whole number of layers: round up": lambda n, p: 0.0,
        "that is the share that works; the idle one is the rest": (
            lambda n, p: 1 - _uneven_share(n, p)
        ),
        "stages with fewer layers wait for the fullest one, so it is rounded up, not down": (
            lambda n, p: abs(1 - n / (p * (n // p)))
        ),
    },
)

# The fewest GPUs on which a stage of ZeRO fits


def _fewest_gpus(
    n_parameters: float,
    stage: int,
    memory: float,
    activations: float,
    *,
    whole: Callable[[float], float] = math.ceil,
    least: int = 1,
) -> int | None:
    parts = (2 * n_parameters, 4 * n_parameters, 12 * n_parameters)
    shared = sum(part for part, first in zip(parts, (3, 2, 1), strict=True) if stage >= first)
    room = memory - activations - (sum(parts) - shared)
    if room < 0 or (room == 0 and shared > 0):
        return None
    return max(least, int(whole(shared / room))) if shared else 1


fewest_gpus = Exercise(
    "fewest_gpus",
    title="the fewest GPUs on which a stage of ZeRO fits",
    points=2,
    reference=_fewest_gpus,
    hints=(
        "Write what every GPU holds whole, and what it holds a d-th of, for the stage.",
        "whole + shared / d + activations <= memory is an inequality in d alone.",
        "d >= shared / (memory - activations - whole). Where the bracket is not positive no number "
        "of GPUs is enough.",
    ),
    cases={
        "70 billion, stage 3": args(69e9, 3, 80e9, 10e9),
        "7 billion, stage 3, 80 GB": args(6.74e9, 3, 80e9, 20e9),
        "7 billion, stage 1": args(6.74e9, 1, 80e9, 20e9),
        "7 billion, stage 2": args(6.74e9, 2, 80e9, 20e9),
        "7 billion without ZeRO do not fit": args(6.74e9, 0, 80e9, 20e9),
        "a billion without ZeRO": args(1e9, 0, 80e9, 20e9),
        "70 billion: the weights alone are too many for stage 2": args(69e9, 2, 80e9, 10e9),
        "small models need one": args(1e8, 3, 80e9, 1e9),
    },
    mistakes={
        "activations take their room on every GPU": lambda n, s, m, a: _fewest_gpus(n, s, m, 0.0),
        "round up: the number below does not fit": (
            lambda n, s, m, a: _fewest_gpus(n, s, m, a, whole=math.floor)
        ),
        "ZeRO's stages leave some parts whole on every GPU; only stage 3 shares all three": (
            lambda n, s, m, a: _fewest_gpus(n, 3, m, a)
        ),
        "where no number of GPUs is enough, return None": (
            lambda n, s, m, a: _fewest_gpus(n, s, m, a) or 0
        ),
    },
)

# How often to save


def _save_every(save: float, between: float, gpus: int) -> float:
    return math.sqrt(2 * save * between / gpus)


save_every = Exercise(
    "save_every",
    title="how often a large run should save",
    points=2,
    reference=_save_every,
    hints=(
        "n GPUs fail n times as often as one: once every M / n seconds.",
        "Saving every t seconds costs s / t of the time; a failure loses t / 2 on average, which "
        "is t n / (2 M) of the time.",
        "The sum is least where its derivative is zero: s / t^2 = n / (2 M).",
    ),
    cases={
        "a minute to save, 16,384 GPUs that fail every 5 years": args(60.0, 1.6e8, 16_384),
        "384 GPUs, 40 seconds": args(40.0, 5e7, 384),
        "one GPU": args(10.0, 1e7, 1),
    },
    mistakes={
        "a failure loses half an interval on average, not all of it": (
            lambda s, m, n: math.sqrt(s * m / n)
        ),
        "many GPUs fail more often than one": lambda s, m, n: math.sqrt(2 * s * m),
        "set the derivative to zero: t squared is 2 s M / n, so take the root": (
            lambda s, m, n: 2 * s * m / n
        ),
    },
)

# The shortest block that hides the ring


def _least_block(
    peak: float, bandwidth: float, heads: int, kv_heads: int, bytes_per_number: int
) -> float:
    return peak * bytes_per_number * kv_heads / (2 * bandwidth * heads)


least_block = Exercise(
    "least_block",
    title="the shortest block behind which a ring's sends hide",
    points=3,
    reference=_least_block,
    hints=(
        "In a round c queries of H heads of width K meet c keys: scores and mix are 4 c c H K "
        "FLOPs, no mask.",
        "Meanwhile keys and values of G heads go on to the neighbour: 2 c G K numbers.",
        "Computing takes at least as long as sending: 4 c c H K / peak >= 2 c G K b / bandwidth; "
        "solve for c.",
    ),
    cases={
        "float32": args(19.5e12, 25e9, 16, 4, 4),
        "A100 over NVLink, all heads": args(312e12, 300e9, 32, 32, 2),
        "A100 between nodes": args(312e12, 25e9, 32, 32, 2),
        "the same, eight queries a key": args(312e12, 25e9, 64, 8, 2),
    },
    mistakes={
        "keys and values both travel": lambda f, w, h, g, b: _least_block(f, w, h, g, b) / 2,
        "a number has several bytes": lambda f, w, h, g, b: _least_block(f, w, h, g, 1),
        "groups of query heads share a key head: fewer numbers travel than queries meet": (
            lambda f, w, h, g, b: _least_block(f, w, h, h, b)
        ),
        "scores and mix are two products of 2 c c H K FLOPs each": (
            lambda f, w, h, g, b: 2 * _least_block(f, w, h, g, b)
        ),
    },
)
