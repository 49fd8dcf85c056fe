"""Records of experiments: read, completed run by run, checked when their code has changed.

A record is `data/results/NAME.jsonl`, a line a run: condition and seed, what was measured, the
command, machine, threads, versions, seconds, and `code`, the fingerprint of the code that measured.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from llmlib.core.files import atomic_write
from llmlib.core.machine import machine_class, versions
from llmlib.core.resources import resource
from llmlib.experiments.experiment import Experiment, Run
from llmlib.experiments.fingerprint import fingerprint

ABOUT = ("seconds", "cpu_seconds", "command", "machine", "threads", "versions", "code", "stale")
"""Fields of a line that say how it was made, and not what was measured."""


def read_runs(name: str) -> list[Run]:
    """Read the committed runs of an experiment.

    Args:
        name: The experiment, as `norm_placement`.

    Returns:
        One entry a run, in the order they were made.
    """
    text = resource(f"results/{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def record_of(experiment: Experiment) -> Path:
    """Return where an experiment's record lies in the repository that is the working folder."""
    return Path("data/results") / f"{experiment.name}.jsonl"


def load(record: Path) -> list[Run]:
    """Read the lines of a record; none where there is no such file."""
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def store(record: Path, runs: Iterable[Run]) -> None:
    """Write a record whole, or not at all."""
    atomic_write(record, "".join(json.dumps(run) + "\n" for run in runs))


def run_missing(
    experiment: Experiment, record: Path, *, minutes: float = math.inf, say: Any = sys.stderr
) -> int:
    """Do those runs of an experiment that its record does not hold yet.

    Args:
        experiment: The experiment.
        record: Its file, whole after every run, so that an interrupted experiment goes on. Lines
            that a check has marked stale are made again.
        minutes: Begin no run after so long.
        say: Stream for a line a run.

    Returns:
        How many runs are still missing.
    """
    runs = load(record)
    missing = [c for c in experiment.plan() if not any(_is_made(c, run) for run in runs)]
    code, begun = fingerprint(experiment), time.monotonic()
    for place, condition in enumerate(missing):
        if time.monotonic() - begun > 60 * minutes:
            return len(missing) - place
        line = perform(experiment, condition) | {"code": code}
        runs = [run for run in runs if not condition.items() <= run.items()]  # a stale one
        runs.append(line)
        store(record, runs)
        measured = {key: value for key, value in line.items() if key not in ABOUT}
        print(f"{place + 1}/{len(missing)} {measured}"[:150], file=say, flush=True)
    return 0


def _is_made(condition: Run, run: Run) -> bool:
    return condition.items() <= run.items() and "stale" not in run


def perform(experiment: Experiment, condition: Run) -> Run:
    """Do one run and say how it was made.

    Args:
        experiment: The experiment.
        condition: Its condition and seed.

    Returns:
        The line of the record, without the fingerprint.
    """
    torch.set_num_threads(experiment.threads)
    start, cpu = time.perf_counter(), time.process_time()
    measured = experiment.measure(condition)
    return {
        **condition,
        **measured,
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "command": f"python -m llmlib.experiments {experiment.name}",
        "machine": machine_class(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def state(experiment: Experiment, runs: Sequence[Run]) -> str:
    """Say what may be thought of a record.

    Args:
        experiment: The experiment.
        runs: Its record.

    Returns:
        `current`; `changed`: some line was made by other code, which a check may find to measure
        the same; `stale`: a check found that it does not.
    """
    if any("stale" in run for run in runs):
        return "stale"
    code = fingerprint(experiment)
    return "current" if all(run.get("code") == code for run in runs) else "changed"


def stamp(experiment: Experiment, record: Path) -> None:
    """Declare that the present code measures what the record says: after a pure move.

    Args:
        experiment: The experiment.
        record: Its file.
    """
    made = {"command": f"python -m llmlib.experiments {experiment.name}"}
    made["code"] = fingerprint(experiment)
    store(record, [{k: v for k, v in run.items() if k != "stale"} | made for run in load(record)])


def check(
    experiment: Experiment, record: Path, perform: Callable[[Experiment, Run], Run] = perform
) -> list[str]:
    """Do the cheapest run of a record again; stamp the record if it gives the same, or mark it.

    Args:
        experiment: The experiment.
        record: Its file.
        perform: Does a run.

    Returns:
        What differs by more than the experiment's tolerance; nothing where the record holds.
    """
    runs = load(record)
    cheapest = min(runs, key=lambda run: run["cpu_seconds"])
    planned = next(one for one in experiment.plan() if one.items() <= cheapest.items())
    again = json.loads(json.dumps(perform(experiment, planned)))
    names = [name for name in {**cheapest, **again} if name not in ABOUT]
    wrong = [
        line
        for name in names
        for line in _differences(again.get(name), cheapest.get(name), experiment.tolerance, name)
    ]
    if wrong:
        code = fingerprint(experiment)
        store(record, [run | {"stale": f"{code} measures otherwise"} for run in runs])
    else:
        stamp(experiment, record)
    return wrong


def _differences(got: Any, want: Any, tolerance: float, at: str) -> Iterator[str]:
    if isinstance(want, dict) and isinstance(got, dict) and want.keys() == got.keys():
        for key in want:
            yield from _differences(got[key], want[key], tolerance, f"{at}.{key}")
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for place, (mine, theirs) in enumerate(zip(got, want, strict=True)):
            yield from _differences(mine, theirs, tolerance, f"{at}[{place}]")
    elif isinstance(want, float | int) and isinstance(got, float | int):
        same = math.isnan(want) and math.isnan(got)
        if not same and not math.isclose(got, want, rel_tol=tolerance, abs_tol=tolerance * 1e-2):
            yield f"{at}: {got}, in the record {want}"
    elif got != want:
        yield f"{at}: {got!r}, in the record {want!r}"
