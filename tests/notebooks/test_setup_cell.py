"""The set-up cell is silent at home, installs in Colab, and leaves torch alone."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version

import pytest
from project import ROOT, Address, address
from setup_cell import setup_cell

NOWHERE = Address("executable-llm-survey", "", "v0.1.0")
SOMEWHERE = Address("executable-llm-survey", "https://example.org/survey", "v0.1.0")

FRAME = """
import importlib.util, json, subprocess, sys, types
calls = []
subprocess.run = lambda command, **options: calls.append([command, options])
find = importlib.util.find_spec
if {missing}:
    importlib.util.find_spec = lambda name, *rest: None if name == "llmlib" else find(name, *rest)
if {colab}:
    sys.modules["google.colab"] = types.ModuleType("google.colab")
before = set(sys.modules)
{cell}
heavy = {{"torch", "numpy", "llmlib", "matplotlib"}} & (set(sys.modules) - before)
print(json.dumps([calls, sorted(heavy)]), file=sys.stderr)
"""


def run_cell(where: Address, *, colab: bool, missing: bool) -> tuple[str, list[list[str]]]:
    """Run the cell in a fresh interpreter; return what it prints and what it would install."""
    program = FRAME.format(cell=setup_cell(where), colab=colab, missing=missing)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    calls, heavy = json.loads(done.stderr)
    assert heavy == []
    assert all(options == {"check": True} for _, options in calls)
    return done.stdout, [command for command, _ in calls]


@pytest.mark.parametrize("where", [NOWHERE, SOMEWHERE])
@pytest.mark.parametrize("colab", [True, False])
def test_silent_where_the_library_is_installed(where: Address, colab: bool) -> None:
    assert run_cell(where, colab=colab, missing=False) == ("", [])


def test_without_an_address_it_says_how_to_install_by_hand() -> None:
    said, calls = run_cell(NOWHERE, colab=True, missing=True)
    assert "pip install" in said
    assert calls == []


def test_in_colab_it_installs_a_revision_and_holds_torch() -> None:
    said, calls = run_cell(SOMEWHERE, colab=True, missing=True)
    assert said == ""
    assert [call[1:] for call in calls] == [
        [
            *["-m", "pip", "install", "--quiet", f"torch=={version('torch')}"],
            "executable-llm-survey @ git+https://example.org/survey@v0.1.0",
        ]
    ]


def test_elsewhere_it_installs_nothing_by_itself() -> None:
    said, calls = run_cell(SOMEWHERE, colab=False, missing=True)
    assert "pip install 'executable-llm-survey @ git+https://example.org/survey@v0.1.0'" in said
    assert calls == []


@pytest.mark.parametrize("where", [NOWHERE, SOMEWHERE])
def test_its_lines_fit_a_cell(where: Address) -> None:
    assert max(len(line) for line in setup_cell(where).splitlines()) <= 100
    assert setup_cell(where).count("\n") < 20


def test_the_address_is_the_project_s() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, chosen = declared["project"], declared["tool"]["executable-survey"]
    found = address()
    assert found.distribution == project["name"]
    assert found.repository == project["urls"]["Repository"]
    assert found.revision == (chosen["colab-revision"] or f"v{project['version']}")


@pytest.mark.parametrize("where", [NOWHERE, SOMEWHERE])
def test_it_is_formatted_as_the_linter_wants(where: Address) -> None:
    ruff = [sys.executable, "-m", "ruff", "format", "--check", "--stdin-filename", "cell.py", "-"]
    subprocess.run(ruff, input=f"{setup_cell(where)}\n", text=True, check=True, cwd=ROOT)
