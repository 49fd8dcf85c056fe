"""Records of experiments: completed run by run, checked when their code has changed.

A record is `data/results/NAME.jsonl`, a line a run: condition and seed, what was measured, the
command, machine, threads, versions, seconds, and `code`, the fingerprint of the code that measured.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from llmlib.core.hardware.machine import machine_class, versions
from llmlib.core.resources import resource
from llmlib.experiments.experiment import Experiment, Run
from llmlib.experiments.fingerprint import fingerprint
from llmlib.experiments.lines import load_record, store_record

ABOUT = ("seconds", "cpu_seconds", "command", "machine", "threads", "versions", "code", "stale")
"""Fields of a line that say how it was made, and not what was measured."""


def record_of(experiment: Experiment) -> Path:
    """Return where an experiment's record lies, or will lie, whatever the working folder."""
    return resource("results") / f"{experiment.name}.jsonl"


def run_missing(
    experiment: Experiment, record: Path, *, minutes: float = math.inf, say: Any = sys.stderr
) -> int:
    """Do those runs of an experiment that its record does not hold yet; return how many are left.

    The record is whole after every run, so that an interrupted experiment goes on. Lines that a
    check has marked stale are made again. What another process adds meanwhile is kept, and not
    done twice.

    Args:
        minutes: Begin no run after so long.
        say: Stream for a line a run.
    """
    missing = not_made(experiment, load_record(record))
    code, begun = fingerprint(experiment), time.monotonic()
    for place, condition in enumerate(missing):
        if time.monotonic() - begun > 60 * minutes:
            return len(not_made(experiment, load_record(record)))
        if condition not in not_made(experiment, load_record(record)):
            continue
        line = perform(experiment, condition) | {"code": code}
        others = [run for run in load_record(record) if not condition.items() <= run.items()]
        store_record(record, [*others, line])  # in the place of a stale one
        measured = {key: value for key, value in line.items() if key not in ABOUT}
        print(f"{place + 1}/{len(missing)} {measured}"[:150], file=say, flush=True)
    return 0


def not_made(experiment: Experiment, runs: Sequence[Run]) -> list[Run]:
    """List what is planned and not in a record, or stale in it."""
    good = [run for run in runs if "stale" not in run]
    return [one for one in experiment.plan() if not any(one.items() <= r.items() for r in good)]


def perform(experiment: Experiment, condition: Run) -> Run:
    """Do one run and say how it was made: the line of the record, without the fingerprint.

    Raises:
        ValueError: If the measurement renames its own condition, or what this function adds.
    """
    torch.set_num_threads(experiment.threads)
    start, cpu = time.perf_counter(), time.process_time()
    measured = experiment.measure(dict(condition))
    for name, value in measured.items():
        if name in ABOUT or condition.get(name, value) != value:
            raise ValueError(f"{experiment.name} measures {name!r}, a name that is taken in each "
                             "line of a record: give what was measured another")  # fmt: skip
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

    `current`; `changed`: some line was made by other code, which a check may find to measure the
    same; `stale`: a check found that it does not.
    """
    if any("stale" in run for run in runs):
        return "stale"
    code = fingerprint(experiment)
    return "current" if all(run.get("code") == code for run in runs) else "changed"


def stamp(experiment: Experiment, record: Path) -> None:
    """Declare that the present code measures what the record says: after a pure move.

    Raises:
        ValueError: If the record holds no run.
    """
    runs = load_record(record)
    if not runs:
        raise ValueError(f"{record} holds no run to stamp")
    made = {"command": f"python -m llmlib.experiments {experiment.name}"}
    made["code"] = fingerprint(experiment)
    store_record(record, [{k: v for k, v in run.items() if k != "stale"} | made for run in runs])


def check_record(
    experiment: Experiment, record: Path, perform: Callable[[Experiment, Run], Run] = perform
) -> list[str]:
    """Do the cheapest run of a record again; stamp the record if it gives the same, or mark it.

    Another class of machine rounds otherwise: there what differs is only said.

    Returns:
        What differs by more than the experiment's tolerance; nothing where the record holds.

    Raises:
        ValueError: If the record holds no run that is planned.
    """
    runs = load_record(record)
    made = [(run, one) for run in runs for one in experiment.plan() if one.items() <= run.items()]
    if not made:
        raise ValueError(f"{record} holds no run that is planned: there is nothing to do again")
    cheapest, planned = min(made, key=lambda pair: pair[0].get("cpu_seconds", math.inf))
    again = json.loads(json.dumps(perform(experiment, planned)))
    names = [name for name in {**cheapest, **again} if name not in ABOUT]
    wrong = [
        line
        for name in names
        for line in _differences(again.get(name), cheapest.get(name), experiment.tolerance, name)
    ]
    here, there = again["machine"], cheapest.get("machine")
    if wrong and here != there:  # rounding that differs grows over a training
        return [f"made on {there}, and this is {here}: check it there; nothing is marked", *wrong]
    if wrong:
        code = fingerprint(experiment)
        store_record(record, [run | {"stale": f"{code} measures otherwise"} for run in runs])
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
