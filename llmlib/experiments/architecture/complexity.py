"""Time and memory against the length of the text, for training and for decoding, layer by layer.

`python -m llmlib.experiments complexity` makes the runs that `data/results` still lacks.

The survey's table of architectures states how the work of each grows with the number of tokens T.
Here each layer runs by itself at 256 to 8,192 tokens, and the exponent is the slope of a straight
line through the logarithms. Training is a forward and a backward pass of one row of width 64,
narrow, so that the term in T squared shows early; decoding is one new token in each of 8 rows of
width 256 after T others. Times are processor seconds on one thread, the fastest of several
repetitions: another program on the machine only ever adds time.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.block import Block
from llmlib.architecture.cache import StateCache
from llmlib.architecture.choices import Mixer
from llmlib.core.memory import tracked_allocations
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import t_interval
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
SEEDS = (0, 1, 2)
FIRST_TIMED = 1024
"""Times are fitted from this length on: below it the cost of calling the operations shows."""


@dataclass(frozen=True)
class Growth:
    """How the cost of a family grows with the length T, as its paper and the survey state it.

    Attributes:
        training: Work of a training step on T tokens, beside the linear projections.
        decoding: Work of the next token after T tokens.
        training_band: Slopes that agree with it between 1,024 and 8,192 tokens.
        decoding_band: The same for decoding.
    """

    training: str
    decoding: str
    training_band: tuple[float, float]
    decoding_band: tuple[float, float]


# The projections, linear in T, pull attention's slope below 2 at these lengths; log T adds about
# an eighth to the slope of T log T; passes that outgrow the processor's cache add to any.
_LINEAR, _SQUARE, _FLAT = (0.8, 1.35), (1.5, 2.15), (-0.2, 0.2)
EXPECTED: dict[Mixer, Growth] = {
    "attention": Growth("T^2", "T", _SQUARE, (0.6, 1.35)),
    "s4": Growth("T log T", "1", _LINEAR, _FLAT),
    "h3": Growth("T log T", "1", _LINEAR, _FLAT),
    "mamba": Growth("T", "1", _LINEAR, _FLAT),
    "rwkv": Growth("T", "1", _LINEAR, _FLAT),
    "retnet": Growth("T", "1", _LINEAR, _FLAT),
    "hyena": Growth("T log T", "T", _LINEAR, (0.6, 1.35)),
}


def one_layer(
    family: Mixer, length: int, d_model: int, n_heads: int
) -> tuple[Transformer, nn.Module]:
    """Return a model of one layer and that layer's mixer, which is what is measured.

    Args:
        family: What mixes the tokens.
        length: Longest text.
        d_model: Width.
        n_heads: Heads, where the family has any.

    Returns:
        The model, for its positions and its cache, and the mixer.
    """
    model = Transformer(
        ModelConfig(
            vocab_size=2, d_model=d_model, n_layers=1, n_heads=n_heads, max_seq_len=length,
            mixer=family,
        )
    )  # fmt: skip
    block = model.blocks[0]
    assert isinstance(block, Block)
    return model, block.mixer


def fastest(work: Callable[[], object], *, seconds: int | float = 0.3, at_least: int = 3) -> float:
    """Time something several times, by the time that the processor spends on it.

    Args:
        work: What to time; called once beforehand.
        seconds: Go on for so long.
        at_least: Repetitions, however long they take.

    Returns:
        Seconds of the fastest repetition.
    """
    work()
    begun, times = time.process_time(), []
    while len(times) < at_least or time.process_time() - begun < seconds:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def training_cost(family: Mixer, length: int, *, seconds: int | float = 0.3) -> tuple[float, int]:
    """Measure a forward and a backward pass of one layer.

    Args:
        family: What mixes the tokens.
        length: Number of tokens, T.
        seconds: How long to repeat.

    Returns:
        Seconds, and the largest number of bytes that its tensors held at a time.
    """
    model, mixer = one_layer(family, length, d_model=64, n_heads=2)
    context = model.context(torch.zeros(1, length, dtype=torch.long))
    x = torch.randn(1, length, 64, requires_grad=True)
    direction = torch.randn(1, length, 64)
    inputs = [x, *mixer.parameters()]

    def step() -> None:
        y = mixer(x, context)
        torch.autograd.grad(y, inputs, direction)

    elapsed = fastest(step, seconds=seconds)
    with tracked_allocations() as memory:
        step()
    return elapsed, memory.peak_bytes


@torch.no_grad()
def decoding_cost(family: Mixer, length: int, *, seconds: int | float = 0.3) -> tuple[float, int]:
    """Measure one layer on one new token in each of 8 rows.

    Args:
        family: What mixes the tokens.
        length: Number of tokens before the new one, T.
        seconds: How long to repeat.

    Returns:
        Seconds, and the bytes that the layer keeps of the T tokens.
    """
    model, mixer = one_layer(family, length + 2, d_model=256, n_heads=8)
    cache = model.new_cache(8, length + 1)
    tokens = torch.zeros(8, length, dtype=torch.long)
    mixer(torch.randn(8, length, 256), model.context(tokens, cache=cache), cache, 0)
    cache.advance(length)
    kept = (cache if isinstance(cache, StateCache) else model.new_cache(8, length)).nbytes
    x = torch.randn(8, 1, 256)
    context = model.context(tokens[:, :1], cache=cache)
    mixer(x, context, cache, 0)  # sets room aside, where the layer does that in blocks
    before = cache.get(0) if isinstance(cache, StateCache) else None

    def step() -> None:
        if isinstance(cache, StateCache) and before is not None:
            cache.put(0, before)  # every repetition continues the same text
        mixer(x, context, cache, 0)

    return fastest(step, seconds=seconds), kept


def perform(run: Run, *, lengths: Sequence[int] = LENGTHS, seconds: int | float = 0.3) -> Run:
    """Measure one family at every length.

    Args:
        run: Its `family` and `seed`.
        lengths: Numbers of tokens.
        seconds: How long to repeat each measurement.

    Returns:
        Seconds and bytes by length.
    """
    seed_everything(run["seed"])
    training = [training_cost(run["family"], length, seconds=seconds) for length in lengths]
    decoding = [decoding_cost(run["family"], length, seconds=seconds) for length in lengths]
    return {
        "lengths": list(lengths),
        "training_seconds": [t for t, _ in training],
        "training_bytes": [b for _, b in training],
        "decoding_seconds": [t for t, _ in decoding],
        "state_bytes": [b for _, b in decoding],
    }


def slope(lengths: Sequence[int | float], values: Sequence[int | float]) -> float:
    r"""Fit an exponent: $\ln \mathrm{value} \approx a \ln T + b$ by least squares.

    Args:
        lengths: Two lengths or more.
        values: A positive value for each.

    Returns:
        The slope a: 1 for proportional, 2 for quadratic, 0 for constant.

    Example:
        >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def slopes(runs: Sequence[Run], family: str, quantity: str) -> list[float]:
    """Return the fitted exponent of each of a family's runs.

    Args:
        runs: Lines of the record.
        family: What mixes the tokens.
        quantity: `training_seconds`, `training_bytes`, `decoding_seconds` or `state_bytes`; times
            are fitted from `FIRST_TIMED` on.

    Returns:
        One slope a run.
    """
    found = []
    for run in runs:
        if run["family"] == family:
            first = FIRST_TIMED if quantity.endswith("seconds") else 0
            pairs = zip(run["lengths"], run[quantity], strict=True)
            x, y = zip(*[(t, value) for t, value in pairs if t >= first], strict=True)
            found.append(slope(x, y))
    return found


def exponent(runs: Sequence[Run], family: str, quantity: str) -> tuple[float, float, float]:
    """Return the mean exponent of a family's runs with its 95% interval.

    Args:
        runs: Lines of the record.
        family: What mixes the tokens.
        quantity: See `slopes`.

    Returns:
        Mean, lower and upper end.
    """
    return t_interval(slopes(runs, family, quantity))


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment; the families take turns.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for family in EXPECTED:
            yield {"family": family, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("complexity", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
