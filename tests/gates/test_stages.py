"""The stages of `make test` stop at the first failure and share one run's identity."""

import json
import os
import sys
from pathlib import Path

import pytest
import stages
from affected import Affected
from project import ROOT
from stages import Stage


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture(autouse=True)
def _own_build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "BUILD", tmp_path)
    monkeypatch.setattr(stages, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(stages, "KERNELS", tmp_path / "kernels.json")
    monkeypatch.setattr(stages, "TIMES", tmp_path / "times.json")
    monkeypatch.setattr(stages, "calibrate", lambda: 1.25)


def test_a_failing_stage_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after = tmp_path / "after"
    plan = [
        Stage("one", command("pass")),
        Stage("two", command("raise SystemExit(3)")),
        Stage("three", command(f"open({str(after)!r}, 'w').close()")),
    ]
    assert stages.run(plan) == 3
    assert not after.exists()
    shown = capsys.readouterr().out
    assert "[1/3] one: passed in" in shown
    assert "FAILED in stage 2, two, after" in shown


def test_nothing_is_printed_after_the_last_stage(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert stages.run([Stage("one", command("pass")), Stage("two", command("print('end')"))]) == 0
    assert capfd.readouterr().out.endswith("end\n")


def test_earlier_results_are_removed_and_stages_share_an_id(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}", encoding="utf-8")
    note = "import os, pathlib; p = pathlib.Path(os.environ['NOTE']); "
    note += "p.open('a').write(os.environ['LLMLIB_RUN'] + '\\n')"
    where = {"NOTE": str(tmp_path / "ids")}
    assert stages.run([Stage("a", command(note), where), Stage("b", command(note), where)]) == 0
    assert not (tmp_path / "results.json").exists()
    first, second = (tmp_path / "ids").read_text(encoding="utf-8").split()
    assert first == second
    assert first != os.environ.get("LLMLIB_RUN")


def test_the_stages_processor_time_is_recorded_and_the_machine_calibrated(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.7: pass"
    sleepy = "import time; time.sleep(0.7)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    plan = [
        Stage("busy", command(busy), calibrated=True),
        Stage("asleep", command(sleepy)),
        Stage("child", command(child), calibrated=True),
    ]
    assert stages.run(plan) == 0
    record = json.loads((tmp_path / "times.json").read_text(encoding="utf-8"))
    assert record["slowness"] == [1.25, 1.25]
    assert record["run"]
    took = record["stages"]
    assert took["busy"] >= 0.7
    assert took["child"] >= 0.7
    assert took["asleep"] < 0.5


def test_the_measured_stages_are_those_that_the_ledger_reads() -> None:
    names = [stage.name for stage in stages.TEST]
    assert names[-4:] == [stages.TESTS, stages.NOTEBOOKS, stages.BOOK, stages.CLOSING]
    assert sum(stage.calibrated for stage in stages.TEST) >= 3
    assert f"--ledger={ROOT / 'build'}" in stages.TEST[-1].command


def test_both_plans_run_every_static_gate() -> None:
    static = [stage.name for stage in stages.STATIC]
    for plan in (stages.CHECK, stages.TEST):
        assert [stage.name for stage in plan][: len(static)] == static


def test_the_closing_stage_is_pytest() -> None:
    closing = stages.TEST[-1].command
    assert closing[1:3] == ["-m", "pytest"]
    assert {"tests/gates", "tests/book"} <= set(closing)


# What `make check CHANGED=1` runs.

CHANGE = Affected(
    changed=["llmlib/data/bpe.py", "README.md", "chapters/03_data/01_sources.ipynb"],
    tests=["tests/data/test_bpe.py"],
    cases={"tests/exercises/test_every.py": ["merge", "pairs"]},
    doctests=["llmlib/data/bpe.py"],
)


def test_each_stage_is_restricted_to_what_changed_or_is_affected() -> None:
    plan = {stage.name: stage.command for stage in stages.changed_plan(CHANGE)}
    assert list(plan) == [stage.name for stage in stages.CHECK]
    code = ["llmlib/data/bpe.py", "chapters/03_data/01_sources.ipynb"]
    assert plan["format"][-2:] == plan["lint"][-2:] == code
    assert plan["types"][-1:] == code[:1]
    assert plan["notebooks' form"][-1:] == code[1:]
    assert plan["fast tests"][-4:] == [
        "--cases=tests/exercises/test_every.py::merge,pairs",
        "tests/data/test_bpe.py",
        "tests/exercises/test_every.py",
        "llmlib/data/bpe.py",
    ]


def test_what_nothing_calls_for_is_left_out() -> None:
    prose = Affected(changed=["README.md"], tests=["tests/gates/test_readme_commands.py"])
    assert [stage.name for stage in stages.changed_plan(prose)] == ["fast tests"]
    assert stages.changed_plan(Affected(changed=["book/index.md"])) == []
    assert stages.run_changed(Affected()) == 0


def test_when_everything_is_affected_all_fast_tests_run() -> None:
    change = Affected(changed=["tests/conftest.py"], everything=True, tests=["tests/a.py"])
    assert stages.changed_plan(change)[-1] == stages.CHECK[-1]


def test_a_stage_without_a_fast_test_is_well_only_where_tests_are_chosen() -> None:
    ends = command("raise SystemExit(5)")
    assert stages.run([Stage("chosen", ends, no_test_is_well=True)]) == 0
    assert stages.run([Stage("all", ends)]) == 5
    assert stages.changed_plan(CHANGE)[-1].no_test_is_well
    assert not stages.CHECK[-1].no_test_is_well


def test_an_unknown_plan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert stages.main(["test", "--changed"]) == 2  # continuous integration leaves nothing out
    assert "usage" in capsys.readouterr().err
