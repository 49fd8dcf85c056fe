"""Time and memory against the length of the text, for training and for decoding, layer by layer.

The survey's table of architectures states how the work of each grows with the number of tokens T.
Here each layer runs by itself at 256 to 8,192 tokens, and the exponent is the slope of a straight
line through the logarithms. Training is a forward and a backward pass of one row of width 64,
narrow, so that the term in T squared shows early; decoding is one new token in each of 8 rows of
width 256 after T others. Times are processor seconds on one thread, the fastest of several
repetitions: another program on the machine only ever adds time.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.table import Table
from torch import nn

from llmlib.architecture.block import Block
from llmlib.architecture.caches.state_cache import StateCache
from llmlib.architecture.choices import Mixer
from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.hardware.memory import tracked_allocations
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval
from llmlib.experiments.experiment import Experiment, Run, Runs

LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
SEEDS = (0, 1, 2)
FIRST_TIMED = 1024
"""Times are fitted from this length on: below it the cost of calling the operations shows."""


FAMILIES: tuple[Mixer, ...] = ("attention", "s4", "h3", "mamba", "rwkv", "retnet", "hyena")
KEEP_THE_TEXT = ("attention", "hyena")
"""What decodes at a cost that grows with the length; the others keep a state of fixed size."""
# The projections, linear in T, pull attention's slope below 2 at these lengths; log T adds about
# an eighth to the slope of T log T; passes that outgrow the processor's cache add to any.
LINEAR, SQUARE, FLAT = (0.8, 1.35), (1.5, 2.15), (-0.2, 0.2)
DECODING_LINEAR = (0.6, 1.35)
"""Slopes that agree with the table between 1,024 and 8,192 tokens."""


def one_layer(
    family: Mixer, length: int, d_model: int, n_heads: int
) -> tuple[Transformer, nn.Module]:
    """Return a model of one layer, for its positions and cache, and its mixer to be measured."""
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
    """Return the processor seconds of the fastest of several repetitions, after one to warm up."""
    work()
    begun, times = time.process_time(), []
    while len(times) < at_least or time.process_time() - begun < seconds:
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def training_cost(family: Mixer, length: int, *, seconds: int | float = 0.3) -> tuple[float, int]:
    """Measure a forward and a backward pass of one layer: seconds, and bytes held at the peak."""
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
    """Measure one layer on a new token in each of 8 rows: seconds, and bytes kept of the text."""
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


def measure(run: Run, *, lengths: Sequence[int] = LENGTHS, seconds: int | float = 0.3) -> Run:
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

    Example:
        >>> round(slope([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    return float(np.polyfit(np.log(lengths), np.log(values), 1)[0])


def exponent(runs: Runs, family: str, quantity: str) -> Interval:
    """Return the exponent of a family's cost with its interval over the runs.

    Times, `training_seconds` and `decoding_seconds`, are fitted from `FIRST_TIMED` on, and
    `training_bytes` and `state_bytes` over all lengths.
    """
    return runs.interval(lambda run: _exponent(run, quantity), family=family)


def _exponent(run: Run, quantity: str) -> float:
    first = FIRST_TIMED if quantity.endswith("seconds") else 0
    pairs = zip(run["lengths"], run[quantity], strict=True)
    return slope(*zip(*((t, value) for t, value in pairs if t >= first), strict=True))


def table(runs: Runs) -> Table:
    quantities = [n for n in runs[0] if n.startswith(("training", "decoding", "state"))]
    found = Table("family", *quantities, title="power of the length")
    for family in FAMILIES:
        found.add_row(family, *(str(exponent(runs, family, name)) for name in quantities))
    return found


def _others(*families: str) -> list[str]:
    return [family for family in FAMILIES if family not in families]


def _runs_lie(runs: Runs, quantity: str, families: Sequence[str], band: Sequence[float]) -> bool:
    chosen = runs.where(family=lambda family: family in families)
    return all(band[0] < _exponent(run, quantity) < band[1] for run in chosen)


def _training_is_as_in_the_table(runs: Runs) -> bool:
    others = _others("attention")
    return _runs_lie(runs, "training_seconds", ["attention"], SQUARE) and _runs_lie(
        runs, "training_seconds", others, LINEAR
    )


def _decoding_is_as_in_the_table(runs: Runs) -> bool:
    others = _others(*KEEP_THE_TEXT)
    return _runs_lie(runs, "decoding_seconds", KEEP_THE_TEXT, DECODING_LINEAR) and _runs_lie(
        runs, "decoding_seconds", others, FLAT
    )


def _lies_above_the_others(runs: Runs, quantity: str, families: Sequence[str]) -> bool:
    lowest = min(exponent(runs, family, quantity).low for family in families)
    return all(exponent(runs, f, quantity).high < lowest for f in _others(*families))


def _training_memory_is_linear(runs: Runs) -> bool:
    def lies(run: Run) -> bool:
        # Mamba computes its states again
        low, high = (0.6, 0.9) if run["family"] == "mamba" else (0.9, 1.05)
        return low < _exponent(run, "training_bytes") < high

    return all(map(lies, runs))


def _state_is_constant_or_linear(runs: Runs) -> bool:
    return all(
        abs(_exponent(run, "state_bytes") - (run["family"] in KEEP_THE_TEXT)) < 0.01 for run in runs
    )


EXPERIMENT = Experiment(
    conditions={"family": FAMILIES},
    seeds=SEEDS,
    measure=measure,
    equal=("lengths",),
    tolerance=0.5,  # times, on whatever processor
    table=table,
    claims={
        "arch.complexity": {
            "training time grows with the length to a power between 1.5 and 2.15 for attention and "
            "between 0.8 and 1.35 for the other families": _training_is_as_in_the_table,
            "decoding time grows to a power between 0.6 and 1.35 for attention and Hyena and "
            "between -0.2 and 0.2 for the others": _decoding_is_as_in_the_table,
            "attention's exponent of training time lies above all others, interval against "
            "interval": lambda runs: _lies_above_the_others(
                runs, "training_seconds", ["attention"]
            ),
            "the exponents of decoding time of attention and Hyena lie above all others, interval "
            "against interval": lambda runs: _lies_above_the_others(
                runs, "decoding_seconds", KEEP_THE_TEXT
            ),
            "memory of training grows to a power between 0.9 and 1.05, with Mamba between 0.6 and "
            "0.9": _training_memory_is_linear,
            "what is kept for decoding is constant, but with attention and Hyena proportional to "
            "the length": _state_is_constant_or_linear,
        },
    },
)
