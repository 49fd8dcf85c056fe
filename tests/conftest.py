"""Shared fixtures of the test suite, and the record of what each test proved."""

import importlib
import importlib.util
import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from charges import subject_of
from hypothesis import HealthCheck, settings
from processor_time import PhaseTimes, seconds_of
from project import tree_state

# `make versions` runs the tests that need no torch where there is none.
torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
if torch:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

# A drawn example is not judged by the clock: a busy neighbour must fail nothing.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state."""
    if torch:
        torch.manual_seed(0)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `Workers` fork its processes from one that has imported the library.

    A user's run starts each anew, which takes some seconds of imports; tests/core/test_workers.py
    does so too.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["llmlib.capstone.clean_text", "llmlib.data.cleaning.scale.parallel"]
    )
    forking = SimpleNamespace(get_context=lambda method: context)
    monkeypatch.setattr("llmlib.core.processes.workers.mp", forking)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results-file", help="write each test's outcome and covered rows here")
    parser.addoption(
        "--cases", help="FILE::NAME,NAME: run only these cases of a file", action="append"
    )
    parser.addoption("--ledger", help="judge what the run took whose reports are in this folder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `--cases` does, and attach the covered rows to each test's report."""
    only = dict(case.split("::") for case in config.getoption("--cases") or ())
    left_out = [item for item in items if not is_wanted(item.nodeid, only)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:  # the report is all that xdist sends back
        rows = [row for mark in item.iter_markers("covers") for row in mark.args]
        if rows:
            item.user_properties.append(("covers", rows))


def is_wanted(node: str, only: dict[str, str]) -> bool:
    """Say whether a test is to run: of the files in `only`, the cases that bear one of the names.

    A test without parameters is about all cases.
    """
    file, _, rest = node.partition("::")
    names = only.get(file)
    return names is None or "[" not in rest or bool(subject_of(rest, names.split(",")))


class Results:
    """Gathers every test's outcome in the process that the reader started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = tree_state()  # taken at the start: an edit during the run must not pass
        self.tests: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        entry = self.tests.setdefault(
            report.nodeid, {"outcome": "passed", "cpu_seconds": 0.0, "covers": []}
        )
        entry["cpu_seconds"] += seconds_of(report)
        entry["covers"] = dict(report.user_properties).get("covers", [])
        if report.outcome != "passed" and entry["outcome"] != "failed":
            entry["outcome"] = report.outcome

    def pytest_sessionfinish(self) -> None:
        record = {
            "run": os.environ.get("LLMLIB_RUN", ""),
            "tree": self.state,
            "tests": self.tests,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(PhaseTimes(), "processor-times")
    if hasattr(config, "workerinput"):
        return
    if path := config.getoption("--results-file"):
        config.pluginmanager.register(Results(Path(path)), "results-of-the-run")
    if folder := config.getoption("--ledger"):
        from ledger_plugin import Closing

        config.pluginmanager.register(Closing(Path(folder)), "ledger")
