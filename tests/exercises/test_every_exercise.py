"""Every exercise of the book: it has a solution, and its checks tell right from wrong."""

import ast
import functools
import json
import runpy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, notebook_code

from llmlib.core.resources import resource
from llmlib.teaching import Exercise, args, authoring
from llmlib.teaching.catalogue import Entry, entries, find_exercise
from llmlib.teaching.grade import grade_notebook

EXERCISES = entries()
each_exercise = pytest.mark.parametrize("entry", EXERCISES, ids=lambda entry: entry.name)


@pytest.fixture(autouse=True)
def _progress_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMLIB_CACHE", str(tmp_path))


def checked_names(path: Path) -> list[str]:
    """List the exercises that a notebook checks: `exercises.check("name", ...)`."""
    return [
        node.args[0].value
        for node in ast.walk(notebook_code(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "exercises.check"
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ]


def stub(path: Path, symbol: str) -> Any:
    """Return the function or class that a notebook leaves to the student, alone."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    body = notebook_code(path).body
    found = [node for node in body if isinstance(node, kinds) and node.name == symbol]
    assert len(found) == 1, f"{path.name} defines {symbol} {len(found)} times"
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    module = ast.fix_missing_locations(ast.Module([*imports, found[0]], []))
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, "stub.py")
        alone.write_text(ast.unparse(module))
        return runpy.run_path(str(alone))[symbol]


def notebook_of(entry: Entry) -> Path:
    return ROOT / "chapters" / entry.chapter / f"{entry.notebook}.ipynb"


def test_names_are_unique_and_each_check_module_is_listed() -> None:
    names = [entry.name for entry in EXERCISES]
    assert len(set(names)) == len(names)
    for entry in EXERCISES:
        assert find_exercise(entry.name).name == entry.name  # imports its module
        assert entry.module.split(".")[-2] == entry.chapter.partition("_")[2]


def test_every_check_in_a_notebook_is_registered_and_every_exercise_is_in_one_notebook() -> None:
    where: dict[str, list[str]] = {entry.name: [] for entry in EXERCISES}
    for path in sorted((ROOT / "chapters").glob("*/*.ipynb")):
        for name in checked_names(path):
            assert name in where, f"{path.name} checks {name!r}, which is registered nowhere"
            where[name].append(f"{path.parent.name}/{path.stem}")
    for entry in EXERCISES:
        assert where[entry.name] == [f"{entry.chapter}/{entry.notebook}"], entry.name


def test_every_solution_file_belongs_to_an_exercise() -> None:
    known = {(entry.chapter, entry.name) for entry in EXERCISES}
    for path in (ROOT / "chapters").glob("*/solutions/*.py"):
        assert (path.parents[1].name, path.stem) in known, f"no exercise asks for {path.name}"


@each_exercise
def test_the_solution_passes(entry: Entry) -> None:
    exercise = find_exercise(entry.name)
    path = resource(f"solutions/{entry.chapter}/{entry.name}.py")
    outcome = exercise.evaluate(runpy.run_path(str(path))[exercise.symbol])
    assert outcome.status == "passed", outcome.message


@pytest.mark.slow
def test_every_solution_passes_in_the_grader(tmp_path: Path) -> None:
    """There the answer lives in another process: gradients and memory are measured across."""
    sources = [resource(f"solutions/{e.chapter}/{e.name}.py").read_text() for e in EXERCISES]
    path = notebook(tmp_path, *sources)
    grades = grade_notebook(path, [entry.name for entry in EXERCISES])
    assert [grade for grade in grades if grade.outcome != "passed"] == []
    assert len(grades) == len(EXERCISES)


@each_exercise
def test_the_reference_passes(entry: Entry) -> None:
    exercise = find_exercise(entry.name)
    assert exercise.cases, f"{entry.name} checks nothing"
    outcome = exercise.evaluate(exercise.reference)
    assert outcome.status == "passed", outcome.message


def the_stub_is_not_attempted(exercise: Exercise, notebook: Path) -> None:
    outcome = exercise.evaluate(stub(notebook, exercise.symbol))
    assert outcome.status == "not attempted", outcome


@each_exercise
def test_the_stub_is_not_attempted(entry: Entry) -> None:
    the_stub_is_not_attempted(find_exercise(entry.name), notebook_of(entry))


def the_mistake_gets_its_message(exercise: Exercise, number: int) -> None:
    message, implementation = list(exercise.mistakes.items())[number]
    outcome = exercise.evaluate(implementation)
    assert outcome.status == "wrong", (message, outcome)
    assert message in outcome.message, (message, outcome.message)


@functools.cache
def declared_mistakes(module: str) -> dict[str, int]:
    """Count the mistakes of a module's exercises from its source, importing nothing."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    return {
        ast.literal_eval(call.args[0]): len(keyword.value.keys)
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "mistakes" and isinstance(keyword.value, ast.Dict)
    }


@pytest.mark.parametrize(
    ("entry", "number"),
    [
        pytest.param(entry, number, id=f"{entry.name}-{number}")
        for entry in EXERCISES
        for number in range(declared_mistakes(entry.module).get(entry.name, 0))
    ],
)
def test_each_typical_mistake_gets_its_own_message(entry: Entry, number: int) -> None:
    the_mistake_gets_its_message(find_exercise(entry.name), number)


@each_exercise
def test_hints_titles_and_mistakes_are_there(entry: Entry) -> None:
    exercise = find_exercise(entry.name)
    assert entry.title
    assert exercise.hints
    assert exercise.mistakes, f"declare at least one typical mistake of {entry.name}"
    declared = declared_mistakes(entry.module)[entry.name]
    assert len(exercise.mistakes) == declared, "one of them is not tried above"


# The rules above, tried on a sample: they must hold before the first exercise exists, and a rule
# that never fails proves nothing.


def twice(x: int) -> int:
    return 2 * x


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Exercise:
    monkeypatch.setattr(authoring, "REGISTRY", {})
    return Exercise("twice", reference=twice, cases={"three": args(3)})


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / "01_y.ipynb"
    content = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    path.write_text(json.dumps({"cells": content}))
    return path


STUB = (
    "from typing import Any\n%matplotlib inline\ndef twice(x: Any):\n    raise NotImplementedError"
)


def test_the_sample_is_found_in_its_notebook(sample: Exercise, tmp_path: Path) -> None:
    path = notebook(tmp_path, STUB, 'exercises.check("twice", twice)')
    assert checked_names(path) == ["twice"]
    the_stub_is_not_attempted(sample, path)


def test_a_solved_stub_is_found_out(sample: Exercise, tmp_path: Path) -> None:
    path = notebook(tmp_path, "def twice(x):\n    return x + x")
    with pytest.raises(AssertionError, match="passed"):
        the_stub_is_not_attempted(sample, path)
    with pytest.raises(AssertionError, match="defines twice 0 times"):
        the_stub_is_not_attempted(sample, notebook(tmp_path, "x = 1"))


def test_a_mistake_that_the_checks_miss_is_found_out(sample: Exercise) -> None:
    sample.mistakes["you squared it"] = lambda x: x**2
    the_mistake_gets_its_message(sample, 0)
    sample.mistakes["you added three"] = lambda x: x + 3  # right for 3, the only case tried
    with pytest.raises(AssertionError, match="passed"):
        the_mistake_gets_its_message(sample, 1)
    sample.mistakes["you took the power of two"] = lambda x: 9  # the first one's answer for 3
    with pytest.raises(AssertionError, match="you squared it"):
        the_mistake_gets_its_message(sample, 2)
