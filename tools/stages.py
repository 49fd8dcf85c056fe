"""Run the stages of `make test` or `make check`, one after the other, each with its time.

The first stage that fails ends the run. The last stage of `test` is pytest, which also judges what
the run took (ledger.py), and whose own closing line is the last thing printed when all is well.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from affected import Affected, affected, changed_files
from calibration import calibrate
from processor_time import children_seconds
from project import ROOT, notebooks

BIN = Path(sys.executable).parent
BUILD = ROOT / "build"
RESULTS = BUILD / "test-results.json"
KERNELS = BUILD / "notebook-times.json"
TIMES = BUILD / "stage-times.json"
PARALLEL = ["-n", "2", "--dist", "loadfile"]
ALONE = 4  # so few files are collected by one process sooner than by two
NO_TEST_RAN = 5  # pytest's exit status
QUICK = "not slow and not browser and not bench"
TYPED = re.compile("llmlib/|tests/|tools/|book/_ext/|hatch_build.py")
TESTS, NOTEBOOKS, BOOK = "tests", "notebooks' outputs", "book"
CLOSING = "gates and the book in a browser"


@dataclass(frozen=True)
class Stage:
    """One command and what it proves."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    needed: Callable[[], bool] = lambda: True
    calibrated: bool = False
    """Whether the machine's speed is measured right after it."""
    no_test_is_well: bool = False
    """Whether pytest may find every test of the named files left out, as slow ones are."""


def tool(name: str, *arguments: str) -> list[str]:
    return [str(BIN / name), *arguments]


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


STATIC = [
    Stage("format", tool("ruff", "format", "--check", "--quiet", ".")),
    Stage("lint", tool("ruff", "check", "--quiet", ".")),
    Stage("types", tool("basedpyright", "--level", "error")),
    Stage("floors of imports", tool("lint-imports", "--no-cache")),
    Stage("notebooks' form", python("tools/check_notebooks.py")),
]

CHECK = [
    *STATIC,
    Stage(
        "fast tests",
        python("-m", "pytest", "-q", *PARALLEL, "-m", QUICK)
        + ["--ignore=tests/book"],  # they read a built book
        {"OMP_NUM_THREADS": "1"},
    ),
]


def changed_plan(change: Affected) -> list[Stage]:
    """Return the stages of `check` that a change calls for, on the files that it affects."""
    code = [path for path in change.changed if path.endswith((".py", ".ipynb"))]
    typed = [path for path in change.changed if path.endswith(".py") and TYPED.match(path)]
    books = [path for path in change.changed if path.endswith(".ipynb")]
    formatted, linted, types, floors, form, fast = CHECK
    plan = [
        code and replace(formatted, command=[*formatted.command[:-1], *code]),
        code and replace(linted, command=[*linted.command[:-1], *code]),
        typed and replace(types, command=[*types.command, *typed]),
        any(path.startswith("llmlib/") for path in typed) and floors,
        books and replace(form, command=[*form.command, *books]),
        fast if change.everything else affected_tests(change),
    ]
    return [stage for stage in plan if stage]


def affected_tests(change: Affected) -> Stage | None:
    tests = [*change.tests, *change.cases, *change.doctests]
    cases = [f"--cases={path}::{','.join(names)}" for path, names in change.cases.items()]
    parallel = PARALLEL if len(tests) > ALONE else []
    command = python("-m", "pytest", "-q", *parallel, "-m", QUICK, *cases, *tests)
    return replace(CHECK[-1], command=command, no_test_is_well=True) if tests else None


TEST = [
    *STATIC[:-1],
    replace(STATIC[-1], calibrated=True),
    Stage("records of other code", python("-m", "llmlib.experiments", "--changed")),
    Stage(
        TESTS,
        python("-m", "pytest", "-q", *PARALLEL, "-m", "not bench")
        + ["--ignore=tests/gates", "--ignore=tests/book", f"--results-file={RESULTS}"],
        {"OMP_NUM_THREADS": "1"},
        calibrated=True,
    ),
    Stage(
        NOTEBOOKS,
        # `-o addopts=`: the options of the test suite would collect the solutions as doctests.
        python("-m", "pytest", "-q", "-o", "addopts=", "-W", "default", *PARALLEL, "--nbval")
        + ["--nbval-current-env", "--nbval-sanitize-with", "tests/notebooks/nbval.cfg"]
        # The clock ends a cell or a kernel that waits for ever; the ledger judges processor time.
        + ["--nbval-cell-timeout=600", "--nbval-kernel-startup-timeout=300"]
        + ["-p", "tools.kernel_times", f"--kernel-times={KERNELS}", "chapters"],
        {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        needed=lambda: bool(notebooks()),
        calibrated=True,
    ),
    Stage(BOOK, python("tools/book/build.py"), calibrated=True),
    Stage(
        CLOSING,
        python("-m", "pytest", "-q", *PARALLEL, "-m", "not bench", f"--ledger={BUILD}")
        + ["tests/gates", "tests/book"],
        {"OMP_NUM_THREADS": "1", "LLMLIB_RESULTS": str(RESULTS)},
    ),
]


class Times:
    """Processor seconds of a run's stages, written after each for the ledger to read."""

    def __init__(self, run: str) -> None:
        self.record = {"run": run, "stages": {}, "slowness": []}

    def measure(self, stage: Stage, environment: dict[str, str]) -> int:
        """Run a stage and return its exit status."""
        before = children_seconds()
        status = subprocess.run(stage.command, cwd=ROOT, env=environment).returncode
        if stage.no_test_is_well and status == NO_TEST_RAN:
            status = 0
        self.record["stages"][stage.name] = children_seconds() - before
        if stage.calibrated and not status:
            self.record["slowness"].append(calibrate())
        TIMES.write_text(json.dumps(self.record, indent=1), encoding="utf-8")
        return status


def run(stages: list[Stage]) -> int:
    """Run the stages in order and return the first failing exit status, or 0."""
    for stale in (RESULTS, KERNELS, TIMES):
        stale.unlink(missing_ok=True)
    BUILD.mkdir(exist_ok=True)
    # One id for the whole run: the closing stage refuses results that carry another.
    common = {"LLMLIB_RUN": f"{time.time_ns()}", "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    started, last, times = time.monotonic(), stages[-1], Times(common["LLMLIB_RUN"])
    for number, stage in enumerate(stages, 1):
        if not stage.needed():
            continue
        if stage is last:
            print(f"\n{time.monotonic() - started:.0f} s so far; the last stage:", flush=True)
        print(f"[{number}/{len(stages)}] {stage.name}", flush=True)
        begun = time.monotonic()
        status = times.measure(stage, os.environ | common | stage.environment)
        seconds = time.monotonic() - begun
        if status:
            print(f"\nFAILED in stage {number}, {stage.name}, after {seconds:.1f} s.", flush=True)
            return status
        if stage is not last:
            print(f"[{number}/{len(stages)}] {stage.name}: passed in {seconds:.1f} s", flush=True)
    return 0


def run_changed(change: Affected) -> int:
    """Run what a change affects and return the first failing exit status, or 0."""
    cases = {name for names in change.cases.values() for name in names}
    affected_part = (
        f"{len(change.tests)} test files, the examples of {len(change.doctests)} modules, "
        f"{len(cases)} exercises or experiments"
    )
    print(f"{len(change.changed)} files differ from HEAD and affect", end=" ")
    print("everything" if change.everything else affected_part, flush=True)
    plan = changed_plan(change)
    return run(plan) if plan else 0


def main(arguments: list[str]) -> int:
    match arguments:
        case ["check"]:
            return run(CHECK)
        case ["check", "--changed"]:
            return run_changed(affected(ROOT, changed_files(ROOT)))
        case ["test"]:
            return run(TEST)
    print("usage: stages.py check [--changed] | test", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
