"""A pytest plugin: the processor seconds of each notebook's kernel, when nbval runs notebooks.

`python -m pytest -p tools.kernel_times --kernel-times=FILE --nbval ...`, from the project's root.
A worker runs one notebook at a time, and nbval waits for the kernel that it stops: what the
finished children took between two reports is the notebook's, processes of the kernel included.
"""

import json
import os
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from tools.processor_time import PhaseTimes, children_seconds, seconds_of


def seconds_of_grandchildren() -> float:
    """Return what living children of this process's children took: nobody will wait for them."""
    seconds = 0.0
    for kernel in psutil.Process().children():
        try:
            below = kernel.children(recursive=True)
        except psutil.NoSuchProcess:
            continue
        for process in below:
            try:
                seconds += sum(process.cpu_times()[:4])  # user, system, and both of its children
            except psutil.NoSuchProcess:
                continue
    return seconds


class KernelTimes:
    """Runs in each worker: adds what a stopped kernel leaves unfinished to what it took."""

    def __init__(self) -> None:
        self.left_running = 0.0

    def meter(self) -> float:
        return children_seconds() + self.left_running

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        if nextitem is None or nextitem.parent is not item.parent:  # the kernel is stopped now
            self.left_running += seconds_of_grandchildren()


class Record:
    """Gathers the notebooks' times in the process that the reader started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid.partition("::")[0]] += seconds_of(report)

    def pytest_sessionfinish(self) -> None:
        record = {"run": os.environ.get("LLMLIB_RUN", ""), "notebooks": self.seconds}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(record, indent=1, sort_keys=True), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernel-times", help="write each notebook's processor seconds here")


def pytest_configure(config: pytest.Config) -> None:
    kernels = KernelTimes()
    config.pluginmanager.register(kernels, "kernels-left-running")
    config.pluginmanager.register(PhaseTimes(kernels.meter), "kernel-times")
    path = config.getoption("--kernel-times")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(Path(path)), "record-of-kernel-times")
