"""The ledger catches each limit that is exceeded, and a report that is not there."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ledger
import pytest
import stages
from charges import CHAPTERS, GATES, HOUSE
from ledger import MissingReportError, Reports, judge, read_reports, table
from project import ROOT

QUIET = dict.fromkeys((stage.name for stage in stages.TEST), 1.0)
CHEAP = Reports(
    tests={"tests/data/test_bpe.py::test_a": 3.0, "llmlib/core/files.py::llmlib.core.files": 2.0},
    notebooks={"chapters/03_data/01_a.ipynb": 5.0, "chapters/03_data/02_b.ipynb": 7.0},
    stages=QUIET | {stages.TESTS: 9.0, stages.NOTEBOOKS: 20.0},
    slowness=[1.0],
)


def problems(reports: Reports, *, enforced: bool = True) -> list[str]:
    return judge(reports, {}, enforced=enforced).problems()


def seconds_on(reports: Reports, name: str) -> float:
    (line,) = [line for line in judge(reports, {}, enforced=True).lines if line.name == name]
    return line.calibrated


def test_a_cheap_run_is_within_its_limits() -> None:
    assert problems(CHEAP) == []
    assert seconds_on(CHEAP, "data") == 3.0
    assert seconds_on(CHEAP, HOUSE) == 2.0
    assert seconds_on(CHEAP, "notebooks, on average") == 6.0
    assert seconds_on(CHEAP, "notebooks, all") == 12.0
    assert seconds_on(CHEAP, "static checks") == len(stages.STATIC)
    assert seconds_on(CHEAP, "collecting tests") == 4.0
    assert seconds_on(CHEAP, "comparing outputs") == 8.0


AGREED = {"introduction": 150, "scaling": 150, "data": 260, "architecture": 260}
AGREED |= {"evaluation": 250, "training": 450, "adaptation": 300, "utilization": 450}
AGREED |= {"capstone": 200}


def one_test(path: str, seconds: float) -> Reports:
    return replace(CHEAP, tests={f"{path}::test_a": seconds})


def notebooks(*seconds: float) -> Reports:
    took = {f"chapters/03_data/{n:02}.ipynb": spent for n, spent in enumerate(seconds)}
    return replace(CHEAP, notebooks=took)


def stage(name: str, seconds: float) -> Reports:
    return replace(CHEAP, stages=CHEAP.stages | {name: seconds})


@pytest.mark.parametrize(
    ("name", "limit", "run_of"),
    [
        *(
            pytest.param(
                name, limit, lambda s, n=name: one_test(f"tests/{n}/test_x.py", s), id=name
            )
            for name, limit in AGREED.items()
        ),
        pytest.param(HOUSE, 200, lambda s: one_test("tests/core/test_x.py", s), id=HOUSE),
        pytest.param("notebooks, on average", 17, lambda s: notebooks(s - 9, s + 9), id="average"),
        pytest.param("chapters/03_data/01.ipynb", 60, lambda s: notebooks(*[1] * 1, s, *[1] * 9)),
        pytest.param("notebooks, all", 1450, lambda s: notebooks(*[s / 128] * 128), id="all"),
        pytest.param("book build", 300, lambda s: stage(stages.BOOK, s), id="book"),
        pytest.param(GATES, 300, lambda s: stage(stages.CLOSING, s), id="gates"),
    ],
)
def test_each_limit_is_enforced_with_a_fifth_of_slack(name: str, limit: float, run_of) -> None:
    assert problems(run_of(1.19 * limit)) == []
    over = f"{name}: {1.25 * limit:.0f} processor seconds, {limit} are allowed"
    assert problems(run_of(1.25 * limit)) == [over]
    assert f"OVER: {over}" in table(judge(run_of(1.25 * limit), {}, enforced=True))


def test_every_chapter_has_a_limit() -> None:
    assert set(AGREED) == set(CHAPTERS)
    assert set(ledger.LIMITS) == {*CHAPTERS, HOUSE}


def test_what_all_limits_allow_is_what_the_whole_may_take() -> None:
    parts = [*ledger.LIMITS.values(), ledger.NOTEBOOKS_LIMIT, ledger.BOOK_LIMIT, ledger.GATES_LIMIT]
    assert sum(parts) < ledger.WHOLE_LIMIT


def test_the_calibration_divides() -> None:
    costly = one_test("tests/introduction/test_x.py", 300.0)
    assert len(problems(costly)) == 1
    assert problems(replace(costly, slowness=[0.9, 2.0, 9.0])) == []
    assert len(problems(replace(costly, slowness=[0.9, 1.0, 9.0]))) == 1  # the median counts
    assert seconds_on(replace(costly, slowness=[2.0]), "introduction") == 150.0
    cheap = one_test("tests/introduction/test_x.py", 130.0)
    assert len(problems(replace(cheap, slowness=[0.5]))) == 1  # a fast machine is not let off


def test_an_imitated_processor_is_only_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    costly = one_test("tests/data/test_x.py", 999.0)
    assert problems(costly, enforced=False) == []
    text = table(judge(costly, {}, enforced=False))
    assert "999.0" in text
    assert "not enforced" in text
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    assert ledger.enforced()
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert not ledger.enforced()


def test_the_dearest_are_shown() -> None:
    tests = {f"tests/core/test_x.py::test_{n}": n / 10 for n in range(30)}
    shown = judge(replace(CHEAP, tests=tests), {}, enforced=True)
    assert [line.measured for line in shown.tests] == [n / 10 for n in range(29, 19, -1)]
    text = table(judge(notebooks(*range(9)), {}, enforced=True))
    assert re.findall(r"03_data/(\d+)\.ipynb", text) == ["08", "07", "06", "05", "04"]


# The reports of a run, as its stages write them.

NOTEBOOK = "chapters/03_data/01_a.ipynb"


def write_reports(folder: Path, notebook_seconds: dict[str, float], data_s: float = 2.0) -> None:
    tests = {"tests/data/test_bpe.py::test_a": {"cpu_seconds": data_s, "outcome": "passed"}}
    reports = {
        stages.RESULTS.name: {"run": "7", "tests": tests},
        stages.KERNELS.name: {"run": "7", "notebooks": notebook_seconds},
        stages.TIMES.name: {"run": "7", "stages": dict(QUIET), "slowness": [1.0]},
    }
    for name, record in reports.items():
        (folder / name).write_text(json.dumps(record), encoding="utf-8")


def edit(path: Path, **changes: object) -> None:
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | changes), encoding="utf-8")


def test_reports_are_read(tmp_path: Path) -> None:
    write_reports(tmp_path, {NOTEBOOK: 5.0})
    found = read_reports(tmp_path, "7", [NOTEBOOK])
    assert found == Reports({"tests/data/test_bpe.py::test_a": 2.0}, {NOTEBOOK: 5.0}, QUIET, [1.0])


@pytest.mark.parametrize("name", [stages.RESULTS.name, stages.KERNELS.name, stages.TIMES.name])
def test_a_missing_report_or_that_of_another_run_is_an_error(tmp_path: Path, name: str) -> None:
    write_reports(tmp_path, {NOTEBOOK: 5.0})
    edit(tmp_path / name, run="6")
    with pytest.raises(MissingReportError, match=f"{name} is of another run"):
        read_reports(tmp_path, "7", [NOTEBOOK])
    (tmp_path / name).unlink()
    with pytest.raises(MissingReportError, match=f"no {name} of this run"):
        read_reports(tmp_path, "7", [NOTEBOOK])


def test_runs_without_an_id_are_not_taken_for_one_run(tmp_path: Path) -> None:
    write_reports(tmp_path, {NOTEBOOK: 5.0})
    for name in (stages.RESULTS.name, stages.KERNELS.name, stages.TIMES.name):
        edit(tmp_path / name, run="")
    with pytest.raises(MissingReportError, match="another run"):
        read_reports(tmp_path, "", [NOTEBOOK])


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (stages.RESULTS.name, {"tests": {}}, "tests or the calibration"),
        (stages.TIMES.name, {"slowness": []}, "tests or the calibration"),
        (stages.TIMES.name, {"stages": {stages.TESTS: 1.0}}, "stages were not measured"),
        (stages.KERNELS.name, {"notebooks": {}}, NOTEBOOK),
        (stages.KERNELS.name, {"notebooks": {NOTEBOOK: 1.0, "b.ipynb": 1.0}}, "b.ipynb"),
    ],
)
def test_a_measurement_that_is_owed_is_an_error(
    tmp_path: Path, name: str, changes: dict[str, object], message: str
) -> None:
    write_reports(tmp_path, {NOTEBOOK: 5.0})
    edit(tmp_path / name, **changes)
    with pytest.raises(MissingReportError, match=message):
        read_reports(tmp_path, "7", [NOTEBOOK])


# The closing stage.

CONFTEST = """
from pathlib import Path
from ledger_plugin import Closing
from processor_time import PhaseTimes

def pytest_configure(config):
    config.pluginmanager.register(PhaseTimes())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Closing(Path({folder!r}), speed=lambda: 1.0))
"""
BUSY = """
import time

def test_a():
    until = time.process_time() + 1
    while time.process_time() < until:
        pass
"""


def pytest_run(arguments: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "ATEN_CPU_CAPABILITY"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments],
        cwd=folder,
        env=environment | {"LLMLIB_RUN": "7"} | more,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def close(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a closing stage of one test that takes a second, on the reports in a folder."""
    inner = folder / "stage"
    inner.mkdir(exist_ok=True)
    (inner / "conftest.py").write_text(CONFTEST.format(folder=str(folder)), encoding="utf-8")
    (inner / "test_busy.py").write_text(BUSY, encoding="utf-8")
    return pytest_run(
        ["-p", "xdist", *stages.PARALLEL, f"--rootdir={inner}", "test_busy.py"],
        inner,
        PYTHONPATH=str(ROOT / "tools"),
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",  # the other plugins take seconds to start
        **more,
    )


@pytest.mark.slow
def test_the_closing_stage_fails_when_a_limit_is_exceeded(tmp_path: Path) -> None:
    write_reports(tmp_path, dict.fromkeys(ledger.expected_notebooks(), 5.0))
    done = close(tmp_path)
    assert done.returncode == 0, done.stdout
    (measured,) = re.findall(rf"{GATES} +([\d.]+)", done.stdout)
    (own,) = re.findall(r"test_busy.py::test_a +([\d.]+)", done.stdout)
    assert 1.0 <= float(own) < float(measured)  # with the start of the workers
    assert "1 passed" in done.stdout.splitlines()[-1]

    write_reports(tmp_path, dict.fromkeys(ledger.expected_notebooks(), 5.0), data_s=999.0)
    done = close(tmp_path)
    assert done.returncode == 1
    assert "OVER: data: 999 processor seconds, 260 are allowed" in done.stdout
    assert "1 passed" in done.stdout.splitlines()[-1]

    done = close(tmp_path, ATEN_CPU_CAPABILITY="default")
    assert done.returncode == 0
    assert "not enforced" in done.stdout


@pytest.mark.slow
def test_the_suite_s_option_asks_for_a_ledger_and_fails_without_a_report(tmp_path: Path) -> None:
    plain = "tests/gates/test_stages.py::test_the_closing_stage_is_pytest"
    done = pytest_run([f"--ledger={tmp_path}", plain], ROOT)
    assert done.returncode == 1
    assert f"There is no ledger: there is no {stages.TIMES.name} of this run" in done.stdout
    assert "1 passed" in done.stdout.splitlines()[-1]
