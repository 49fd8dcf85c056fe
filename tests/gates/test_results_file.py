"""The record of a run, which the coverage proof reads, is right when tests run in parallel."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from coverage_proof import covering_tests
from project import ROOT, tree_state


@pytest.mark.slow
def test_outcomes_and_covered_rows_arrive_from_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    covering = next(t for t in covering_tests(ROOT) if t.rows and "/introduction/" in t.name)
    plain = "tests/gates/test_stages.py::test_the_closing_stage_is_pytest"
    skipped = "tests/gates/test_coverage.py::test_the_results_are_of_this_run"
    environment = {k: v for k, v in os.environ.items() if k not in ("LLMLIB_RESULTS",)}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    subprocess.run(
        [*command, f"--results-file={path}", covering.name, plain, skipped],
        cwd=ROOT,
        env=environment | {"LLMLIB_RUN": "11"},
        check=True,
        capture_output=True,
    )
    record = json.loads(path.read_text(encoding="utf-8"))
    tests = record["tests"]
    assert (record["run"], record["tree"]) == ("11", tree_state(ROOT))
    assert (tests[plain]["outcome"], tests[plain]["covers"]) == ("passed", [])
    assert tests[skipped]["outcome"] == "skipped"
    cases = [entry for name, entry in tests.items() if name.startswith(covering.name)]
    assert cases
    for entry in cases:
        assert entry["outcome"] == "passed"
        assert set(entry["covers"]) == set(covering.rows)
