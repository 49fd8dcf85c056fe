"""A training step of each layer without attention against attention, in the same run.

`python tests/benchmarks/bench_recurrent.py` prints the table and writes build/bench/recurrent.json.
A step is a forward and a backward pass of the mixer alone, gradients of the input and of every
parameter included, on 4 rows of 1,024 tokens with D = 256. The layers take turns, so a slower
minute of the machine hits all of them; ratios are between medians. Target: every layer's parallel
or chunked form within 3 times attention's step.
"""

import json
import statistics
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table
from rounds import Action, take_turns

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.block import Block
from llmlib.architecture.choices import Mixer
from llmlib.core.files import atomic_write
from llmlib.core.hardware.machine import machine_class, versions

BATCH, LENGTH, WIDTH, THREADS, REPEATS = 4, 1024, 256, 1, 9
TARGET = 3.0
MIXERS = [mixer for mixer in get_args(Mixer) if mixer != "latent"]
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "recurrent.json"


def make_step(mixer: Mixer) -> tuple[Action, int]:
    """Return one layer's step and its number of parameters."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=2, d_model=WIDTH, n_layers=1, n_heads=8, max_seq_len=LENGTH, mixer=mixer
    )
    model = Transformer(config)
    block = model.blocks[0]
    assert isinstance(block, Block)
    layer = block.mixer
    context = model.context(torch.zeros(BATCH, LENGTH, dtype=torch.long))
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    direction = torch.randn(BATCH, LENGTH, WIDTH)
    inputs = [x, *layer.parameters()]

    def step() -> None:
        torch.autograd.grad(layer(x, context), inputs, direction)

    return step, sum(p.numel() for p in layer.parameters())


def main() -> None:
    torch.set_num_threads(THREADS)
    made = {mixer: make_step(mixer) for mixer in MIXERS}
    times = take_turns({name: step for name, (step, _) in made.items()}, REPEATS)
    medians = {name: statistics.median(values) for name, values in times.items()}
    report = {
        "machine": machine_class(),
        "versions": versions(),
        "threads": THREADS,
        "shape": {"rows": BATCH, "tokens": LENGTH, "d_model": WIDTH},
        "target": TARGET,
        "parameters": {name: count for name, (_, count) in made.items()},
        "seconds": medians,
        "fastest_seconds": {name: min(values) for name, values in times.items()},
        "ratio_to_attention": {name: m / medians["attention"] for name, m in medians.items()},
    }
    show(report)
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


def show(report: dict[str, Any]) -> None:
    table = Table("layer", "parameters", "ms a step", "x attention", title=report["machine"])
    for name, seconds in report["seconds"].items():
        ratio = report["ratio_to_attention"][name]
        mark = "" if ratio <= TARGET else " (above the target)"
        parameters = f"{report['parameters'][name]:,}"
        table.add_row(name, parameters, f"{1e3 * seconds:.0f}", f"{ratio:.2f}{mark}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
