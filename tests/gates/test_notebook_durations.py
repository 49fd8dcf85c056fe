"""No notebook takes a minute, and all of them take less than twenty."""

import os
from pathlib import Path

import pytest
from durations import notebook_seconds, too_slow
from project import ROOT, notebooks


def test_the_notebooks_are_quick_enough() -> None:
    path = os.environ.get("LLMLIB_DURATIONS")
    if not path:
        pytest.skip("reads the report of the notebooks' run: run `make test`")
    if not notebooks(ROOT):
        pytest.skip("there are no notebooks yet")
    seconds = notebook_seconds(Path(path))
    assert len(seconds) == len(notebooks(ROOT))
    assert too_slow(seconds) == []


def report(folder: Path, *cases: tuple[str, float]) -> Path:
    path = folder / "notebooks.xml"
    lines = [f'<testcase classname="{name}" name="Cell" time="{time}"/>' for name, time in cases]
    text = f"<testsuites><testsuite>{''.join(lines)}</testsuite></testsuites>"
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_are_summed_by_notebook(tmp_path: Path) -> None:
    path = report(tmp_path, ("chapters.a.x", 1.5), ("chapters.a.y", 2.0), ("chapters.a.x", 3.0))
    assert notebook_seconds(path) == {"chapters.a.x": 4.5, "chapters.a.y": 2.0}


def test_a_case_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no notebook's"):
        notebook_seconds(report(tmp_path, ("tests.core.test_files", 1.0)))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({"chapters.a.x": 59.0}, []),
        ({"chapters.a.x": 61.0}, ["chapters.a.x: 61 s, at most 60 s"]),
        ({f"chapters.a.{n}": 50.0 for n in range(7)}, ["chapter a: 350 s, at most 300 s"]),
        ({f"chapters.a.{n}": 29.0 for n in range(12)}, []),
        ({f"chapters.a.{n}": 31.0 for n in range(12)}, ["chapter a: 372 s, at most 360 s"]),
        ({f"chapters.c{n}.x": 50.0 for n in range(25)}, ["all notebooks: 1250 s, at most 1200 s"]),
    ],
)
def test_each_limit_holds(seconds: dict[str, float], expected: list[str]) -> None:
    assert too_slow(seconds) == expected
