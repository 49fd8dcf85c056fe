"""To be taken apart: what experiments without a declaration still need."""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from llmlib.core.files import atomic_write
from llmlib.core.machine import machine_class, versions
from llmlib.core.statistics import t_interval
from llmlib.experiments.experiment import Run


def paired_interval(
    runs: Sequence[Run], varied: str, first: str, second: str, value: Callable[[Run], float]
) -> tuple[float, float, float]:
    """Compare two conditions of an experiment seed by seed.

    Args:
        runs: Lines of its record.
        varied: The field that tells conditions apart, as `mix`.
        first: A condition.
        second: Another one, with the same seeds.
        value: What a run measured.

    Returns:
        Mean of the first less the second, and its 95% interval.

    Example:
        >>> runs = [{"mix": m, "seed": s, "loss": x} for m, s, x in
        ...         (("a", 0, 1.0), ("b", 0, 0.5), ("b", 1, 1.5), ("a", 1, 2.0))]
        >>> paired_interval(runs, "mix", "a", "b", lambda run: run["loss"])
        (0.5, 0.5, 0.5)
    """
    found = {(run[varied], run["seed"]): value(run) for run in runs}
    seeds = sorted({run["seed"] for run in runs})
    return t_interval([found[first, seed] - found[second, seed] for seed in seeds])


def run_missing(
    name: str,
    plan: Iterable[Run],
    perform: Callable[[Run], Run],
    record: Path,
    *,
    minutes: float = math.inf,
) -> int:
    """Do those runs of a plan that a record does not hold yet, a line each.

    Args:
        name: The experiment.
        plan: What identifies each run, as JSON values.
        perform: Does one run; returns what it measured.
        record: The file of results; whole after every run, so an interrupted experiment goes on.
        minutes: Begin no run after so long.

    Returns:
        How many runs are still missing.
    """
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    done = [json.loads(line) for line in lines]
    missing = [run for run in plan if not any(run.items() <= line.items() for line in done)]
    begun = time.monotonic()
    for place, run in enumerate(missing):
        if time.monotonic() - begun > 60 * minutes:
            return len(missing) - place
        start, cpu = time.perf_counter(), time.process_time()
        measured = perform(run)
        line = {
            **run,
            **measured,
            "seconds": round(time.perf_counter() - start, 2),
            "cpu_seconds": round(time.process_time() - cpu, 2),
            "command": f"python -m llmlib.experiments.{name}",
            "machine": machine_class(),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        lines.append(json.dumps(line))
        atomic_write(record, "\n".join(lines) + "\n")
        print(f"{place + 1}/{len(missing)} {run}: {measured}"[:150], file=sys.stderr, flush=True)
    return 0


def make_missing_runs(
    name: str,
    plan: Iterable[Run],
    perform: Callable[[Run], Run],
    description: str | None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Be the command of an experiment: do on one thread what its record does not hold yet.

    Args:
        name: The experiment; its runs are recorded in `data/results/NAME.jsonl`.
        plan: What identifies each run.
        perform: Does one run.
        description: The module's docstring, whose first line is shown by `--help`.
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0] if description else "")
    parser.add_argument("--record", type=Path, default=Path(f"data/results/{name}.jsonl"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after this")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    return int(run_missing(name, plan, perform, options.record, minutes=options.minutes) > 0)
