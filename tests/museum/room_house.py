"""The house: notebooks, grading and what runs them."""

import ast
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmlib.teaching.answers.cells import python_of
from llmlib.teaching.differences import difference
from llmlib.teaching.grade import students
from museum.exhibit import Exhibit

# A line that begins with % inside an expression


def strips_lines(cell: str) -> str:
    lines = cell.split("\n")
    return "\n".join("" if line.lstrip()[:1] in ("%", "!") else line for line in lines)


def commands_go(read: Callable[[str], str]) -> None:
    cell = "%matplotlib inline\n!pip list\ndef half(x):\n    return x / 2"
    assert [type(node).__name__ for node in ast.parse(read(cell)).body][-1] == "FunctionDef"


def continued_lines_stay(read: Callable[[str], str]) -> None:
    cell = "text = ('%d pages'\n    % 7)\nlist_of = '''\n! first\n'''\nrest = 17 \\\n  % 5"
    space: dict[str, object] = {}
    try:
        exec(compile(read(cell), "<cell>", "exec"), space)
    except SyntaxError as error:
        raise AssertionError("a line inside an expression was taken for a command") from error
    assert (space["text"], space["list_of"], space["rest"]) == ("7 pages", "\n! first\n", 2)


# Two students whose files have one name


def by_file_name(notebooks: Sequence[Path]) -> list[str]:
    return [path.stem for path in notebooks]


def files_named_by_students(call: Callable[[Sequence[Path]], list[str]]) -> None:
    assert call([Path("hw1/ada.ipynb"), Path("hw1/bob.ipynb")]) == ["ada", "bob"]


def students_stay_apart(call: Callable[[Sequence[Path]], list[str]]) -> None:
    names = call([Path(f"submitted/{student}/ps1.ipynb") for student in ("ada", "bob")])
    points = dict(zip(names, (3, 0), strict=True))
    assert len(points) == 2, "one student's points stand for both"
    assert "ada" in names[0] and "bob" in names[1]


# A right answer that is refused for its type


def as_printed(got: object, want: object) -> str | None:
    return None if repr(got) == repr(want) else f"expected {want!r}, got {got!r}"


def wrong_values_are_told(compare: Callable[[Any, Any], str | None]) -> None:
    assert compare([1.5, 2.0], [1.5, 2.0]) is None
    assert compare(True, False) is not None
    assert compare([1.5, 2.5], [1.5, 2.0]) is not None


def equal_values_are_right(compare: Callable[[Any, Any], str | None]) -> None:
    for got, want in (
        (np.isclose(0.1 + 0.2, 0.3), True),
        (np.float64(1.5), 1.5),
        (np.array([1.5, 2.0]), [1.5, 2.0]),
        ((1, 2), [1, 2]),
    ):
        assert compare(got, want) is None, f"{type(got).__name__} for {type(want).__name__}"


EXHIBITS = [
    Exhibit(
        name="A line that continues is taken for a command",
        threads=("nbQA-dev/nbQA#594",),
        fault="Every line of a cell that begins with % or ! is left out as a command of IPython, "
        "also in the middle of an expression or of a text.",
        looks="Most cells have such lines only at the top. Elsewhere a program reads as broken, "
        "or computes something else.",
        faulty=strips_lines,
        sound=python_of,
        plausible=commands_go,
        check=continued_lines_stay,
    ),
    Exhibit(
        name="Two students with one file name become one",
        threads=("jupyter/nbgrader#30", "RunestoneInteractive/RunestoneServer#1158"),
        fault="A submission is called by its file's name, and each student's folder holds a file "
        "of the same name.",
        looks="The table has a line for every file. Whoever collects it by student keeps the last.",
        faulty=by_file_name,
        sound=students,
        plausible=files_named_by_students,
        check=students_stay_apart,
    ),
    Exhibit(
        name="A right answer is refused for its type",
        threads=("ucbds-infra/otter-grader#807", "project-lovelace/lovelace-problems#40"),
        fault="An answer is compared with the right one as it prints, or together with its type.",
        looks="The teacher's own solution passes, and so does everybody who computes the same way. "
        "An array for a list loses the point; so does a truth value when NumPy begins to print it "
        "in another way.",
        faulty=as_printed,
        sound=difference,
        plausible=wrong_values_are_told,
        check=equal_values_are_right,
    ),
]
