"""Processor seconds, user and system: what a test or a program takes whoever else is busy.

Those of child processes count once the child has ended and has been waited for.
"""

import resource
import time
from collections.abc import Callable, Generator

import pytest


def children_seconds() -> float:
    """Return the processor seconds of this process's finished children, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds() -> float:
    """Return the processor seconds of this process and its finished children."""
    return time.process_time() + children_seconds()


class PhaseTimes:
    """A pytest plugin: gives the report of each phase of a test its `cpu_seconds`.

    A fixture counts where it is first used and where it is torn down. Reports cross from xdist's
    workers to the process that the reader started, attributes included.
    """

    def __init__(self, meter: Callable[[], float] = cpu_seconds) -> None:
        self.meter = meter
        self.last = meter()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        self.last = self.meter()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self,
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = self.meter()
        report.__dict__["cpu_seconds"] = now - self.last
        self.last = now
        return report


def seconds_of(report: pytest.TestReport) -> float:
    """Return a report's processor seconds; 0 for a test whose worker died before it reported."""
    return report.__dict__.get("cpu_seconds", 0.0)
