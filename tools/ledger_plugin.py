"""A pytest plugin of the closing stage: judges what the run took, its own time included."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import stages
from calibration import calibrate
from charges import subject_chapters
from ledger import MissingReportError, enforced, expected_notebooks, judge, read_reports, table
from processor_time import cpu_seconds, seconds_of


class Closing:
    """Prints the ledger before pytest's closing line, and fails the session where it is over."""

    def __init__(self, folder: Path, speed: Callable[[], float] = calibrate) -> None:
        self.folder, self.speed = folder, speed
        self.tests: dict[str, float] = {}
        self.text = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.tests[report.nodeid] = self.tests.get(report.nodeid, 0.0) + seconds_of(report)

    # Last: the workers have ended by then, and count among this process's finished children.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        try:
            self.text, over = self.judged(cpu_seconds())
        except MissingReportError as error:
            self.text, over = f"\nThere is no ledger: {error}", True
        if over and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def judged(self, own_seconds: float) -> tuple[str, bool]:
        run = os.environ.get("LLMLIB_RUN", "")
        before = read_reports(self.folder, run, expected_notebooks())
        reports = replace(
            before,
            tests=before.tests | self.tests,
            stages=before.stages | {stages.CLOSING: own_seconds},
            slowness=[*before.slowness, self.speed()],
        )
        ledger = judge(reports, subject_chapters(), enforced=enforced())
        return table(ledger), bool(ledger.problems())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(self.text)
