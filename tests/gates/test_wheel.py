"""The wheel works outside the clone: data and solutions are inside, and a notebook runs with it.

The clean environment sees the installed third-party packages through a `.pth` file, but not the
clone: a path named in a `.pth` file adds no further `.pth` files, the editable install's included.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from project import ROOT, address, notebooks
from setup_cell import setup_cell

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    interpreter = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet"]
    subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / minor / "site-packages"
    (site / "third-party.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return interpreter


def run(python: Path, *arguments: str) -> str:
    """Run in the clean environment, from a folder outside the clone."""
    home = python.parents[2]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    kept.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(python), *arguments],
        cwd=home,
        env=kept | {"HOME": str(home), "IPYTHONDIR": str(home / "ipython")},
        capture_output=True,
        text=True,
        timeout=1200,  # by the clock, for a program that waits for ever
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_clean_environment_does_not_see_the_clone(python: Path) -> None:
    where = run(python, "-c", "import llmlib; print(llmlib.__file__)").strip()
    assert Path(where).is_relative_to(python.parents[1])


def carried() -> dict[str, Path]:
    """Every file that the wheel must carry, by its resource name."""
    solutions = {
        f"solutions/{path.parts[-3]}/{path.name}": path
        for path in ROOT.glob("chapters/*/solutions/*.py")
    }
    data = {
        path.relative_to(ROOT / "data").as_posix(): path
        for path in (ROOT / "data").rglob("*")
        if path.is_file()
    }
    return data | solutions


def test_resources_read_the_same_as_in_the_clone(python: Path) -> None:
    names = carried()
    assert names
    code = (
        "import hashlib, json, sys\n"
        "from llmlib.core.resources import resource\n"
        "names = json.loads(sys.argv[1])\n"
        "print(json.dumps({n: hashlib.sha256(resource(n).read_bytes()).hexdigest()"
        " for n in names}))"
    )
    import hashlib

    there = json.loads(run(python, "-c", code, json.dumps(sorted(names))))
    assert there == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in names.items()
    }


def test_the_wheel_holds_no_tests_and_names_its_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"llmlib"}
    assert "llmlib/py.typed" in names
    licences = {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "LICENSE-TEXT", "NOTICE"}


def small_notebook(folder: Path) -> Path:
    """A notebook like the book's: the set-up cell, then the library."""
    sources = [
        setup_cell(address()),
        "from llmlib.core.resources import resource",
        "assert '_data' in str(resource('survey/models.csv'))",
    ]
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [],
            "source": source,
        }
        for number, source in enumerate(sources)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = folder / "small.ipynb"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def execute(python: Path, notebook: Path) -> dict[str, object]:
    run(python, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", str(notebook))
    return json.loads(notebook.read_text(encoding="utf-8"))


def test_a_notebook_runs_outside_the_clone(python: Path, tmp_path: Path) -> None:
    done = execute(python, small_notebook(tmp_path))
    cells = done["cells"]
    assert isinstance(cells, list)
    assert [cell["outputs"] for cell in cells] == [[], [], []]  # the set-up cell is silent


@pytest.mark.skipif(not notebooks(), reason="there are no notebooks yet")
def test_a_chapter_runs_outside_the_clone(python: Path, tmp_path: Path) -> None:
    chapter = min(notebooks(), key=lambda path: path.stat().st_size)
    copy = tmp_path / chapter.name
    copy.write_bytes(chapter.read_bytes())
    execute(python, copy)
