"""What a change affects is found by imports: all that reaches it, and no more."""

import json
import subprocess
from pathlib import Path

import pytest
from affected import Affected, affected, changed_files
from import_graph import ImportGraph
from project import ROOT

CHECK = """
from llmlib.teaching.authoring import Exercise
NOTEBOOK = "03_data/01_sources"
clean = Exercise("clean_text", title="a title")
"""
DECLARED = "\nEXPERIMENT = Experiment()\n"
FILES = {
    "llmlib/__init__.py": "",
    "llmlib/core/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
    "    from .resources import resource\n    from .seeds import seed\n",
    "llmlib/core/resources.py": "def resource(): ...\n",
    "llmlib/core/seeds.py": '"""Say.\n\n>>> 1\n1\n"""\ndef seed(): ...\n',
    "llmlib/data/__init__.py": "from llmlib.data.privacy import redact\n"
    "from llmlib.data.bpe import BPE\nfrom .wide import *\nWIDTH = 80\n",
    "llmlib/data/bpe.py": '"""\n>>> 1\n1\n"""\nfrom llmlib.core import seed\nclass BPE: ...\n',
    "llmlib/data/wide.py": "def spread(): ...\n",
    "llmlib/data/privacy/__init__.py": "from llmlib.data.privacy.rules import redact\n",
    "llmlib/data/privacy/rules.py": "from .names import NAMES\ndef redact(): ...\n",
    "llmlib/data/privacy/names.py": "from llmlib.core.resources import resource\nNAMES = ()\n",
    "llmlib/capstone/__init__.py": "",
    "llmlib/capstone/__main__.py": "def main():\n    from llmlib.data import redact\n",
    "llmlib/experiments/__init__.py": "",
    "llmlib/experiments/catalogue.py": "def modules(): ...\n",
    "llmlib/experiments/data/secrets.py": "from llmlib.data import redact\n" + DECLARED,
    "llmlib/experiments/data/sizes.py": "from llmlib.data import BPE\n" + DECLARED,
    "llmlib/teaching/catalogue.py": "def entries(): ...\n",
    "llmlib/teaching/authoring.py": "class Exercise: ...\n",
    "llmlib/teaching/checks/data/sources.py": CHECK + "from llmlib.data import BPE\n",
    "tools/helper.py": "from llmlib.core import seed\n",
    "tools/started.py": "from llmlib.data.bpe import BPE\n",
    "tests/conftest.py": "",
    "tests/book/test_pages.py": "from llmlib.data import BPE\n",
    "tests/core/test_seeds.py": "from llmlib.core import seed\n",
    "tests/data/conftest.py": "from llmlib.data.wide import spread\n",
    "tests/data/test_bpe.py": "from llmlib.data import BPE\n",
    "tests/data/test_redact.py": "import llmlib.data\nllmlib.data.redact()\n",
    "tests/data/test_alias.py": "from llmlib import data\ndata.redact()\n",
    "tests/data/test_width.py": "from llmlib.data import WIDTH\n",
    "tests/capstone/test_command.py": "command = ['-m', 'llmlib.capstone']\n",
    "tests/core/test_tools.py": "from helper import x\n",
    "tests/core/test_started.py": "command = ['python', 'tools/started.py']\n",
    "tests/core/test_program.py": "code = 'from llmlib.data import BPE; BPE()'\n",
    "tests/core/test_said.py": '"""Says llmlib.data.bpe and README.md."""\n',
    "tests/core/test_named.py": "page = 'docs/README.md'\n",
    "tests/golden/readings.py": "from llmlib.data import redact\n",
    "tests/golden/test_golden.py": "program = Path(__file__).with_name('readings.py')\n",
    "tests/golden/readings.json": "{}",
    "tests/exercises/test_every.py": "from llmlib.teaching.catalogue import entries\n",
    "tests/experiments/test_records.py": "from llmlib.experiments.catalogue import modules\n",
    "tests/experiments/data/test_secrets.py": "runs = read_runs('secrets')\n",
    "data/names.json": "[]",
    "README.md": "",
    "chapters/03_data/solutions/clean_text.py": "def clean_text(): ...\n",
}
NOTEBOOKS = {
    "chapters/03_data/01_sources.ipynb": "%matplotlib inline\nexercises.check('clean_text', f)",
    "chapters/03_data/02_privacy.ipynb": "from llmlib.data import redact\n!ls",
    "chapters/03_data/03_secrets.ipynb": "runs = read_runs('secrets')",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, code in NOTEBOOKS.items():
        cells = [{"cell_type": "code", "source": code}, {"cell_type": "markdown", "source": "(("}]
        (tmp_path / name).write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return tmp_path


def short(change: Affected) -> tuple[set[str], dict[str, list[str]]]:
    """Return the names of the whole test files, and the cases."""
    names = {Path(path).stem.removeprefix("test_") for path in change.tests}
    return names, {Path(path).stem.removeprefix("test_"): c for path, c in change.cases.items()}


EVERY, RECORDS = {"every": ["clean_text"]}, {"records": ["secrets"]}


@pytest.mark.parametrize(
    ("changed", "tests", "cases"),
    [
        (
            "llmlib/data/privacy/names.py",
            {"redact", "alias", "width", "command", "golden", "secrets"},
            RECORDS,
        ),
        (
            "llmlib/data/bpe.py",
            {"bpe", "width", "started", "program"},
            EVERY | {"records": ["sizes"]},
        ),
        ("llmlib/data/wide.py", {"bpe", "redact", "alias", "width"}, {}),  # through conftest
        ("llmlib/core/seeds.py", {"seeds", "tools", "bpe", "width", "started", "program"}, ...),
        ("tools/helper.py", {"tools"}, {}),
        ("tools/started.py", {"started"}, {}),
        ("tests/core/test_seeds.py", {"seeds"}, {}),
        ("tests/golden/readings.json", {"golden"}, {}),
        ("tests/golden/readings.py", {"golden"}, {}),
        ("README.md", {"named"}, {}),
        ("data/names.json", {"redact", "alias", "width", "command", "golden", "secrets"}, RECORDS),
        ("llmlib/experiments/data/secrets.py", {"secrets"}, RECORDS),
        ("llmlib/experiments/catalogue.py", {"records"}, {}),
        ("llmlib/teaching/checks/data/sources.py", set(), EVERY),
        ("chapters/03_data/solutions/clean_text.py", set(), EVERY),
        ("chapters/03_data/01_sources.ipynb", set(), EVERY),
        ("llmlib/teaching/authoring.py", set(), EVERY),
    ],
)
def test_what_a_change_affects(tree: Path, changed: str, tests: set[str], cases: object) -> None:
    found = affected(tree, [changed])
    assert not found.everything
    assert found.changed == [changed]
    assert short(found)[0] == tests
    assert cases is ... or short(found)[1] == cases


def test_a_removed_module_affects_who_imports_it(tree: Path) -> None:
    (tree / "llmlib/data/privacy/names.py").unlink()
    found = affected(tree, ["llmlib/data/privacy/names.py"])
    assert "redact" in short(found)[0]
    assert found.changed == []


def test_a_package_s_own_file_affects_who_takes_a_name_through_it(tree: Path) -> None:
    found = short(affected(tree, ["llmlib/data/privacy/__init__.py"]))[0]
    assert found == {"redact", "alias", "width", "command", "golden", "secrets"}


def test_examples_run_where_the_module_or_what_it_imports_changed(tree: Path) -> None:
    assert affected(tree, ["llmlib/core/seeds.py"]).doctests == [
        "llmlib/core/seeds.py",
        "llmlib/data/bpe.py",
    ]
    assert affected(tree, ["llmlib/data/bpe.py"]).doctests == ["llmlib/data/bpe.py"]


@pytest.mark.parametrize(
    ("changed", "numbers"),
    [
        ("chapters/03_data/02_privacy.ipynb", ["02"]),
        ("llmlib/data/privacy/names.py", ["02", "03"]),
        ("llmlib/data/bpe.py", ["01"]),
        ("llmlib/core/seeds.py", ["01"]),
        ("README.md", []),
    ],
)
def test_notebooks_that_use_what_changed(tree: Path, changed: str, numbers: list[str]) -> None:
    assert [Path(p).name[:2] for p in affected(tree, [changed]).notebooks] == numbers


@pytest.mark.parametrize("changed", ["tests/conftest.py", "pyproject.toml", "constraints.txt"])
def test_everything_depends_on_these(tree: Path, changed: str) -> None:
    assert affected(tree, [changed]).everything


def test_imports_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/a.py").write_text("import b\n")
    (tmp_path / "tools/b.py").write_text("import a\n")
    assert ImportGraph(tmp_path).closure("tools/a.py") == {"tools/a.py", "tools/b.py"}


def test_changed_files_are_those_that_differ_from_the_last_commit(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("same.py", "edited.py", "staged.py", "removed.py", "renamed.py"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("build/\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "a")
    assert changed_files(tmp_path) == set()
    (tmp_path / "edited.py").write_text("1")
    (tmp_path / "staged.py").write_text("2")
    (tmp_path / "removed.py").unlink()
    git("add", "staged.py")
    git("mv", "renamed.py", "other name.py")
    (tmp_path / "new.py").write_text("3")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "ignored.py").write_text("4")
    expected = {"edited", "staged", "removed", "renamed", "other name", "new"}
    assert changed_files(tmp_path) == {f"{name}.py" for name in expected}


# The book's own tree.


def test_a_change_in_privacy_affects_what_uses_it_and_no_architecture() -> None:
    found = affected(ROOT, ["llmlib/data/privacy/names.py"])
    assert "tests/data/privacy/test_privacy.py" in found.tests
    assert "chapters/03_data/04_privacy_and_contamination.ipynb" in found.notebooks
    assert "llmlib/data/privacy/redaction.py" in found.doctests
    assert "memorized_secrets" in found.cases["tests/experiments/test_records.py"]
    everything = [*found.tests, *found.cases, *found.doctests, *found.notebooks]
    assert [path for path in everything if "architecture" in path] == []
    assert [path for path in everything if "tokenizers" in path] == []


def test_a_change_of_checks_affects_these_exercises_alone() -> None:
    found = affected(ROOT, ["llmlib/teaching/checks/data/privacy.py"])
    of_exercises = {tuple(names) for path, names in found.cases.items() if "/exercises/" in path}
    assert of_exercises == {("check_digit", "exposures", "place_before")}
    assert found.notebooks == ["chapters/03_data/04_privacy_and_contamination.ipynb"]
    assert [path for path in found.tests if "/data/privacy/" in path or "/arch" in path] == []
