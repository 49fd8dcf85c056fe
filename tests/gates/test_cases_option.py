"""`--cases` runs, of a file, the cases of the named exercises, and leaves other files alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

CONFTEST = ROOT / "tests" / "conftest.py"
TESTS = """
import pytest

@pytest.mark.parametrize("name", ["merge", "merge_all", "merge: it holds", "split-1"])
def test_case(name): ...

def test_names(): ...
"""


@pytest.mark.slow
def test_only_the_named_cases_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("test_some.py", "test_other.py"):
        (tmp_path / name).write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", f"--rootdir={tmp_path}"]
    command += ["-o", f"pythonpath={ROOT / 'tools'}", "--cases=test_some.py::merge,split"]
    done = subprocess.run(command, cwd=tmp_path, text=True, check=True, stdout=subprocess.PIPE)
    found = [line for line in done.stdout.splitlines() if line.startswith("test_some")]
    assert [line.partition("::")[2] for line in found] == [
        "test_case[merge]",
        "test_case[merge: it holds]",
        "test_case[split-1]",
        "test_names",
    ]
    assert sum(line.startswith("test_other") for line in done.stdout.splitlines()) == 5
