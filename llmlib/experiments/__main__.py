"""The command of all experiments: `python -m llmlib.experiments NAME` makes the missing runs."""

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llmlib.experiments.catalogue import find_experiment, modules
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.lines import load_record
from llmlib.experiments.records import (
    ABOUT,
    check_record,
    not_made,
    record_of,
    run_missing,
    stamp,
    state,
)

MANY = 8
TASKS = {
    "table": "print what the record holds",
    "check": "after a change of its code: do the cheapest run again and compare",
    "stamp": "after a pure move: say that the record holds",
    "changed": "list records of other code",
    "renew": "make stale records again",
}
"""What the command does other than to make missing runs, an option each."""


def show(experiment: Experiment, runs: Runs) -> Table:
    """Lay the record out: for each condition the mean over the seeds of what is a number."""
    conditions: list[Run] = []
    for planned in experiment.plan():
        condition = {name: value for name, value in planned.items() if name != "seed"}
        if condition not in conditions:
            conditions.append(condition)
    fields = list(dict.fromkeys(name for condition in conditions for name in condition))
    known = {"seed", *ABOUT, *experiment.equal, *fields}
    measured = [flat({k: v for k, v in run.items() if k not in known}) for run in runs]
    names = list(dict.fromkeys(name for found in measured for name in found))
    cells: dict[str, list[str]] = {name: [] for name in names}
    seeds = []
    for condition in conditions:
        made = [f for f, r in zip(measured, runs, strict=True) if condition.items() <= r.items()]
        seeds.append(str(len(made)))
        for name in names:
            cells[name].append(_mean([found[name] for found in made if name in found]))
    if len(names) > MANY:  # a line a quantity reads better than a column
        table = Table("mean over the seeds", *(", ".join(map(str, c.values())) for c in conditions))
        for name in names:
            table.add_row(name, *cells[name])
        return table
    table = Table(*fields, "seeds", *names)
    for place, condition in enumerate(conditions):
        values = [str(condition.get(field, "")) for field in fields]
        table.add_row(*values, seeds[place], *(cells[name][place] for name in names))
    return table


def flat(measured: Run) -> dict[str, float]:
    """Return the numbers of a run, those within dictionaries by names like `a.b`; no lists."""
    found: dict[str, float] = {}
    for name, value in measured.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": number for inner, number in flat(value).items()}
        elif isinstance(value, float | int):
            found[name] = value
    return found


def _mean(numbers: Sequence[float]) -> str:
    return f"{statistics.mean(numbers):.4g}" if numbers else ""


def list_all() -> Table:
    """Lay out all experiments: runs made and planned, state of the record, claims that hold.

    Claims are about whole records: of another none is asked.
    """
    table = Table("experiment", "runs", "record", "claims")
    for name in modules():
        experiment = find_experiment(name)
        runs = load_record(record_of(experiment))
        planned, missing = len(list(experiment.plan())), len(not_made(experiment, runs))
        sentences = experiment.sentences()
        table.add_row(
            name,
            f"{planned - missing} of {planned}",
            state(experiment, runs) if runs else "",
            "" if missing else f"{sum(map(experiment.holds, sentences))} of {len(sentences)}",
        )
    return table


def not_current() -> list[str]:
    """Name the records that other code made than the present, with what to do about each."""
    advice = {
        "changed": "`python -m llmlib.experiments {} --check` does its cheapest run again",
        "stale": "`make records` does its runs again",
    }
    found = []
    for name in modules():
        experiment = find_experiment(name)
        if (now := state(experiment, load_record(record_of(experiment)))) != "current":
            found.append(f"{name}: {now}; {advice[now].format(name)}")
    return found


def renew(minutes: float) -> int:
    """Make the runs of all stale records again; return how many are left."""
    all_of_them = map(find_experiment, modules())
    stale = [e for e in all_of_them if state(e, load_record(record_of(e))) == "stale"]
    print(f"stale records: {', '.join(e.name for e in stale) or 'none'}")
    return sum(run_missing(e, record_of(e), minutes=minutes) for e in stale)


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llmlib.experiments", description=__doc__)
    parser.add_argument("name", nargs="?", help="the experiment; none lists all")
    tasks = parser.add_mutually_exclusive_group()
    for task, purpose in TASKS.items():
        tasks.add_argument(f"--{task}", action="store_true", help=purpose)
    parser.add_argument("--record", type=Path, help="another file for the runs")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after this")
    options = parser.parse_args(arguments)
    of_all = options.changed or options.renew
    if of_all and (options.name or options.record):
        parser.error("--changed and --renew are for all records: name no experiment and no record")
    if not (options.name or of_all) and (
        options.table or options.check or options.stamp or options.record
    ):
        parser.error("name an experiment")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs of an experiment, print its table, or check its record.

    Returns:
        Exit status: 0 when the record is complete, or was found to hold; 2 where nothing could
        be done.
    """
    options = _read_options(arguments)
    console = Console(width=140)
    if options.changed:
        print("\n".join(not_current()) or "every record was made by the present code")
        return 0
    if options.renew:
        return int(renew(options.minutes) > 0)
    if options.name is None:
        console.print(list_all())
        return 0
    try:
        experiment = find_experiment(options.name)
        record = options.record or record_of(experiment)
        runs = Runs(load_record(record))
    except (KeyError, ValueError) as error:
        print(error.args[0], file=sys.stderr)
        return 2
    if not runs and (options.table or options.stamp or options.check):
        print(
            f"{record} holds no run: `python -m llmlib.experiments {options.name}` makes them",
            file=sys.stderr,
        )
        return 2
    if options.table:
        console.print((experiment.table or (lambda runs: show(experiment, runs)))(runs))
        return 0
    if options.stamp:
        stamp(experiment, record)
        return 0
    if options.check:
        wrong = check_record(experiment, record)
        print("\n".join(wrong) or f"{options.name}: the same again; the record holds")
        return int(bool(wrong))
    missing = run_missing(experiment, record, minutes=options.minutes)
    print(f"{missing} runs to go: the same command goes on" if missing else "complete")
    return int(missing > 0)


if __name__ == "__main__":
    raise SystemExit(main())
