"""The report on the newest witnesses names each package, its versions and what fails with it."""

from pathlib import Path

import pytest
import witnesses
from project import ROOT
from witnesses import Outcome, imported_packages, outcomes, report, requirements

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.parity.test_sizes" name="test_a[3]"/>
<testcase classname="tests.parity.test_sizes.TestGroup" name="test_b">
  <failure message="AssertionError: 1 is not 2&#10;more">trace</failure></testcase>
<testcase classname="tests.parity.test_words" name="test_c"><skipped message="no"/></testcase>
<testcase classname="" name="tests.parity.data.test_gone">
  <error message="collection failure">ImportError</error></testcase>
</testsuite></testsuites>"""
FOUND = [
    Outcome("tests/parity/test_sizes.py", "test_a[3]", "passed"),
    Outcome("tests/parity/test_sizes.py", "test_b", "failed", "AssertionError: 1 is not 2"),
    Outcome("tests/parity/test_words.py", "test_c", "skipped"),
    Outcome(
        "tests/parity/data/test_gone.py",
        "tests.parity.data.test_gone",
        "failed",
        "collection failure",
    ),
]
NAMED = ["transformers>=4.50", "Tokenizers", "nltk>=3.9,<4", "ruff"]
IMPORTS = {
    "tests/parity/test_sizes.py": {"transformers", "tokenizers"},
    "tests/parity/test_words.py": {"nltk"},
    "tests/parity/data/test_gone.py": {"tokenizers"},
}


def test_outcomes_are_read() -> None:
    assert outcomes(JUNIT) == FOUND


def test_each_package_has_its_versions_and_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = {"transformers": "5.0.1", "tokenizers": "0.22.0", "nltk": "3.9.1", "ruff": "0.12"}
    monkeypatch.setattr(witnesses, "pins", lambda: pinned)
    tried = {"transformers": "5.9.0", "tokenizers": "0.30.0", "nltk": "3.9.1", "other": "1"}
    lines = report(NAMED, tried, FOUND, IMPORTS).splitlines()
    assert [line.split(maxsplit=3) for line in lines[1:5]] == [
        ["nltk", "3.9.1", "3.9.1", "1 skipped"],
        ["ruff", "0.12", "-", "-"],
        ["tokenizers", "0.22.0", "0.30.0", "2 failed, 1 passed"],
        ["transformers", "5.0.1", "5.9.0", "1 failed, 1 passed"],
    ]
    assert lines[5:] == [
        "FAILED tests/parity/test_sizes.py::test_b: AssertionError: 1 is not 2",
        "FAILED tests/parity/data/test_gone.py::tests.parity.data.test_gone: collection failure",
        "4 comparisons, 2 failed",
    ]


def test_packages_are_read_from_the_imports(tmp_path: Path) -> None:
    path = tmp_path / "test_a.py"
    path.write_text(
        "import sklearn.svm\nfrom google.protobuf import x\n"
        "def test_a():\n    yaml = pytest.importorskip('yaml.nodes')\n",
        encoding="utf-8",
    )
    homes = {"sklearn": ["scikit-learn"], "google": ["protobuf"], "yaml": ["Py_YAML"], "os": []}
    assert imported_packages(path, homes) == {"scikit-learn", "protobuf", "py-yaml"}


def test_only_torch_keeps_its_pin() -> None:
    core, named = requirements()
    assert core[0] == f"torch=={witnesses.pins()['torch']}"
    assert not any("torch" in need for need in core[1:])
    assert {"transformers", "datasets", "datatrove"} <= {need.split(">=")[0] for need in named}


@pytest.fixture
def _fake_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(folder: Path) -> Path:
        folder.mkdir()
        return folder / "python"

    monkeypatch.setattr(witnesses, "PLACE", tmp_path / "witnesses")
    monkeypatch.setattr(witnesses, "install", install)
    monkeypatch.setattr(witnesses, "installed_versions", lambda python: {"transformers": "9.9"})


@pytest.mark.usefixtures("_fake_environment")
def test_comparisons_that_fail_are_reported_and_fail_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(witnesses, "compare", lambda python: JUNIT)
    assert witnesses.main() == 0
    shown = capsys.readouterr().out
    assert "9.9" in shown
    assert "4 comparisons, 2 failed" in shown
    assert (tmp_path / "witnesses" / "report.txt").read_text() == shown
    assert not (tmp_path / "witnesses" / "environment").exists()


@pytest.mark.usefixtures("_fake_environment")
def test_a_run_that_never_came_to_the_comparisons_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):  # the environment's Python is not there
        witnesses.main()
    assert not (tmp_path / "witnesses" / "environment").exists()


@pytest.mark.parametrize(("status", "is_error"), [(0, False), (1, False), (2, True), (4, True)])
def test_pytest_s_status_says_whether_they_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, is_error: bool
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {status}\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(witnesses, "PLACE", tmp_path)
    (tmp_path / "parity.xml").write_text(JUNIT, encoding="utf-8")
    if is_error:
        with pytest.raises(RuntimeError, match=f"status {status}"):
            witnesses.compare(python)
    else:
        assert witnesses.compare(python) == JUNIT


def test_every_file_of_comparisons_imports_a_package() -> None:
    homes = witnesses.packages_distributions()
    files = sorted((ROOT / "tests" / "parity").rglob("test_*.py"))
    assert files
    for path in files:
        assert imported_packages(path, homes) - {"pytest"}, path.name
