"""One training step as written, with its kernels written plainly, and compiled, in the same run.

`python tests/benchmarks/bench_compile.py` prints the table and writes build/bench/compile.json. It
needs a C++ compiler, `g++` or what the variable CXX names. The cache of compiled kernels is new, so
the seconds of compilation are those of a first run. Times are processor seconds of one thread, the
three steps alternate, ratios are medians over rounds.
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch
from rounds import Action, training_step

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.files import atomic_write
from llmlib.core.hardware.machine import machine_class, versions
from llmlib.training import next_token_loss
from llmlib.training.distributed import Objective

BATCH, LENGTH, VOCAB, ROUNDS = 8, 256, 4096, 7
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "compile.json"
CONFIG = ModelConfig(
    vocab_size=VOCAB, d_model=256, n_layers=4, n_heads=8, max_seq_len=LENGTH, tie_embeddings=False
)


def compiler() -> str | None:
    """Return the version of the compiler that Inductor will call, or None without one."""
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        return None
    said = subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0]


def plain(step: Action) -> Action:
    """Return the step with the forms that the compiler is given, one kernel an operation."""

    def run() -> object:
        with patch.object(torch.compiler, "is_compiling", lambda: True):
            return step()

    return run


def measure(steps: dict[str, Action]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(ROUNDS + 1):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if round_:  # the first one warms up
                times[name].append(time.process_time() - start)
    return times


def main() -> None:
    found = compiler()
    if found is None:
        report: dict[str, object] = {"machine": machine_class(), "compiler": None}
        print("No C++ compiler: install g++, or name one in CXX. Nothing was measured.")
        atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")
        return
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokens = torch.randint(VOCAB, (BATCH, LENGTH + 1))
    batch = {"inputs": tokens[:, :-1].contiguous(), "targets": tokens[:, 1:].contiguous()}
    model = Transformer(CONFIG)
    eager, compiled = Objective(model, next_token_loss), Objective(model, next_token_loss)
    compiled.compile()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        wall, processor = time.perf_counter(), os.times()
        compiled(batch).backward()
        after = os.times()
        seconds = {
            "wall": time.perf_counter() - wall,
            "processor": sum(after[:4]) - sum(processor[:4]),  # the compiler's processes too
        }
        steps = {
            "as written": training_step(model, lambda: eager(batch)),
            "plain": plain(training_step(model, lambda: eager(batch))),
            "compiled": training_step(model, lambda: compiled(batch)),
        }
        times = measure(steps)
    ratios = {
        f"{name} / compiled": statistics.median(
            a / b for a, b in zip(times[name], times["compiled"], strict=True)
        )
        for name in ("as written", "plain")
    }
    report = {
        "machine": machine_class(),
        "versions": versions(),
        "compiler": found,
        "seconds_to_compile": {name: round(value, 1) for name, value in seconds.items()},
        "processor_seconds_of_a_step": {
            name: round(statistics.median(values), 3) for name, values in times.items()
        },
        "ratios": {name: round(value, 3) for name, value in ratios.items()},
    }
    print(json.dumps(report, indent=1))
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
