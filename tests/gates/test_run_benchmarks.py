"""`make bench` names what there is, and fails when a benchmark fails."""

from pathlib import Path

import pytest
import run_benchmarks


@pytest.fixture(autouse=True)
def _two_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tests" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "bench_good.py").write_text("print('ratio 2.0')\n", encoding="utf-8")
    (folder / "bench_bad.py").write_text("raise SystemExit(1)\n", encoding="utf-8")
    monkeypatch.setattr(run_benchmarks, "ROOT", tmp_path)
    monkeypatch.setattr(run_benchmarks, "REPORTS", tmp_path / "build" / "bench")


def test_one_is_chosen(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_benchmarks.main(["bench_good"]) == 0
    shown = capfd.readouterr().out
    assert "ratio 2.0" in shown
    assert "bench_bad" not in shown


def test_a_failure_is_named_and_the_others_still_run(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_benchmarks.main([]) == 1
    shown = capfd.readouterr().out
    assert "ratio 2.0" in shown
    assert "FAILED: bench_bad" in shown


def test_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_benchmarks.main(["bench_none"]) == 2
    assert "there are: bench_bad, bench_good" in capsys.readouterr().out
