"""What a run of `make test` took, in processor seconds, beside what each part of it may take.

The closing stage judges it, see ledger_plugin.py. Measured seconds are divided by what the
calibration found, so that a slow machine fails nothing, and may exceed a limit by a fifth. Where
ATEN_CPU_CAPABILITY imitates an older processor, nothing is enforced.
"""

import json
import os
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stages
from charges import CHAPTERS, GATES, HOUSE, line_of
from project import ROOT, notebooks

SLACK = 1.2
LIMITS = dict.fromkeys(CHAPTERS, 150.0) | {
    # These three hold others to account, file by file and process by process; where a neighbour
    # shares the caches, they take half as much again as alone, which no calibration tells.
    "data": 260.0,
    "architecture": 260.0,
    "training": 450.0,
    "utilization": 450.0,
    "evaluation": 250.0,
    "adaptation": 300.0,
    "capstone": 200.0,
    HOUSE: 200.0,
}
"""For the tests of each chapter, and for those that belong to none."""
GATES_LIMIT, BOOK_LIMIT = 300.0, 300.0
WHOLE_LIMIT = 45 * 60 * 2  # 45 minutes of two cores: all limits together stay below
# The aim is 16 on average; the two chapters that stand take 18 to 19, so that is what is enforced.
MEAN_NOTEBOOK_LIMIT, NOTEBOOK_LIMIT, NOTEBOOKS_LIMIT = 17.0, 60.0, 1450.0
DEAREST_TESTS, DEAREST_NOTEBOOKS = 10, 5


class MissingReportError(Exception):
    """A report that the ledger needs is not there, is empty, or is of another run."""


@dataclass(frozen=True)
class Reports:
    """What a run measured, in processor seconds.

    Attributes:
        tests: By node id.
        notebooks: By the notebook's path.
        stages: By the stage's name, children included.
        slowness: How many times slower than the reference the machine was, at several moments.
    """

    tests: dict[str, float]
    notebooks: dict[str, float]
    stages: dict[str, float]
    slowness: list[float]


@dataclass(frozen=True)
class Line:
    """A line of the ledger; one without a limit only reports."""

    name: str
    measured: float
    calibrated: float
    limit: float | None = None

    def excess(self) -> str | None:
        if self.limit is None or self.calibrated <= self.limit * SLACK:
            return None
        return f"{self.name}: {self.calibrated:.0f} processor seconds, {self.limit:.0f} are allowed"


@dataclass(frozen=True)
class Ledger:
    """A judged run."""

    lines: list[Line]
    tests: list[Line]
    notebooks: list[Line]
    slowness: float
    enforced: bool

    def problems(self) -> list[str]:
        """Return a sentence for each limit that is exceeded, if limits are enforced."""
        judged = [*self.lines, *self.notebooks] if self.enforced else []
        return [sentence for line in judged if (sentence := line.excess())]


def load(path: Path, run: str) -> dict[str, Any]:
    """Read one report of a run.

    Raises:
        MissingReportError: It is not there, or another run wrote it.
    """
    if not path.is_file():
        raise MissingReportError(f"there is no {path.name} of this run: run `make test`")
    record = json.loads(path.read_text(encoding="utf-8"))
    if not run or record["run"] != run:
        raise MissingReportError(f"{path.name} is of another run: run `make test`")
    return record


def read_reports(folder: Path, run: str, expected: list[str]) -> Reports:
    """Read what the stages of a run wrote.

    Args:
        folder: Where they wrote it.
        run: The run's id.
        expected: The notebooks that must have been measured.

    Raises:
        MissingReportError: A report, or a measurement that it owes, is missing.
    """
    own = load(folder / stages.TIMES.name, run)
    tests = load(folder / stages.RESULTS.name, run)["tests"]
    kernels = load(folder / stages.KERNELS.name, run)["notebooks"] if expected else {}
    if not tests or not own["slowness"]:
        raise MissingReportError("the tests or the calibration were not measured: run `make test`")
    if set(kernels) != set(expected):
        raise MissingReportError(
            f"these notebooks were not measured, or should not be: "
            f"{', '.join(sorted(set(kernels) ^ set(expected)))}"
        )
    absent = [stage.name for stage in stages.TEST[:-1] if stage.name not in own["stages"]]
    if absent:
        raise MissingReportError(f"these stages were not measured: {', '.join(absent)}")
    seconds = {name: entry["cpu_seconds"] for name, entry in tests.items()}
    return Reports(seconds, kernels, own["stages"], own["slowness"])


def judge(reports: Reports, subjects: Mapping[str, str], *, enforced: bool) -> Ledger:
    """Sum a run's measurements on the lines of the ledger, and calibrate them."""
    slowness = statistics.median(reports.slowness)

    def line(name: str, seconds: float, limit: float | None = None) -> Line:
        return Line(name, seconds, seconds / slowness, limit)

    sums: dict[str, float] = defaultdict(float)
    for node, seconds in reports.tests.items():
        sums[line_of(node, subjects)] += seconds
    took, kernels = reports.stages, list(reports.notebooks.values()) or [0.0]
    suite = sum(seconds for name, seconds in sums.items() if name != GATES)
    lines = [line(name, sums[name], limit) for name, limit in LIMITS.items()]
    lines += [
        line("notebooks, on average", statistics.mean(kernels), MEAN_NOTEBOOK_LIMIT),
        line("notebooks, all", sum(kernels), NOTEBOOKS_LIMIT),
        line("book build", took[stages.BOOK], BOOK_LIMIT),
        # The whole stage: the browser's processes outlive single tests.
        line(GATES, took[stages.CLOSING], GATES_LIMIT),
        line("static checks", sum(took[stage.name] for stage in stages.STATIC)),
        line("collecting tests", took[stages.TESTS] - suite),
        line("comparing outputs", took.get(stages.NOTEBOOKS, 0.0) - sum(kernels)),
    ]
    ranked = [
        sorted((line(*item, limit) for item in seconds.items()), key=lambda row: -row.measured)
        for seconds, limit in ((reports.tests, None), (reports.notebooks, NOTEBOOK_LIMIT))
    ]
    return Ledger(lines, ranked[0][:DEAREST_TESTS], ranked[1], slowness, enforced)


def table(ledger: Ledger) -> str:
    """Return the ledger as text, with what is over at its end."""
    rows = ["", "processor seconds                measured  calibrated  limit"]

    def add(title: str, lines: list[Line]) -> None:
        rows.append(title)
        for line in lines:
            limit = "-" if line.limit is None else f"{line.limit:.0f}"
            numbers = f"{line.measured:8.1f}  {line.calibrated:10.1f}  {limit:>5}"
            name = f"  {line.name}"
            # A long name, of a test, stands behind its numbers.
            rows.append(f"{name:<31} {numbers}" if len(name) < 32 else f"{'':31} {numbers}{name}")

    add("by part", ledger.lines)
    add("the dearest tests", ledger.tests)
    add("the dearest notebooks", ledger.notebooks[:DEAREST_NOTEBOOKS])
    rows.append(
        f"calibrated: divided by {ledger.slowness:.2f}; a fifth more than a limit is let by"
    )
    if not ledger.enforced:
        rows.append("ATEN_CPU_CAPABILITY is set: the limits are shown and not enforced")
    return "\n".join([*rows, *(f"OVER: {sentence}" for sentence in ledger.problems())])


def enforced() -> bool:
    """Return whether limits count: not on a processor that is imitated."""
    return "ATEN_CPU_CAPABILITY" not in os.environ


def expected_notebooks() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in notebooks(ROOT)]
