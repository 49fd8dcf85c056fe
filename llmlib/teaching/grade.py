"""Grade submitted notebooks: `python -m llmlib.teaching.grade submissions > grades.csv`.

Files are named, or folders of them, one for each student or deeper: a student is called by the path
below the folder that all share. For each notebook a process is started in the sandbox of
`llmlib.core.processes`. It runs the imports, definitions and simple assignments, and nothing else
of the notebook. The checks run here, in the grader's process, and call the student's functions over
a pipe. So these cannot forge a pass: what they print is thrown away, what they patch is patched on
their side only, leaving or hanging ends their own process, and a made-up message is at most a
made-up return value, which is compared with the reference here.

What is not prevented: a submission may copy the published solution or call the library's own
implementation, since both return the right values. The checks compare values and not ideas.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from llmlib.core.files import atomic_write
from llmlib.teaching.answers.cells import python_of
from llmlib.teaching.authoring import Exercise
from llmlib.teaching.catalogue import Entry, entries, find_exercise
from llmlib.teaching.remote import Session, SessionLost, session

_MAX_BYTES = 20_000_000


@dataclass(frozen=True)
class Grade:
    """One line of the table."""

    student: str
    """What `students` calls the notebook."""
    exercise: str
    """Empty where the notebook could not be read."""
    outcome: str
    """An answer's status; or `missing`, not defined; `stopped` by a limit; `unreadable`."""
    message: str
    points: int | float
    """What the exercise is worth if it passed, else 0."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use."""

    load_s: int | float = 60
    """Processor seconds to run a notebook's imports and definitions."""
    time_s: int | float = 20
    """Processor seconds for each exercise."""
    wall_s: int | float | None = None
    """Seconds by the clock behind each, to end what sleeps or waits; by default far more."""
    memory_mb: int = 4000
    """Address space in MiB; torch alone takes about 1500."""


def read_cells(path: Path) -> list[str]:
    """Read the sources of a notebook's code cells.

    Raises:
        ValueError: If it is no notebook of format 4.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES // 10**6} MB: clear its outputs")
        cells = json.loads(path.read_text(encoding="utf-8-sig"))["cells"]
        code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return [text if isinstance(text, str) else "".join(text) for text in code]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"not a notebook: {error}") from error
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not a notebook of format 4") from error


def _words(cells: list[str]) -> set[str]:
    """Collect the names a notebook defines and the strings it holds, exercises among them."""
    words: set[str] = set()
    for cell in cells:
        try:
            nodes = list(ast.walk(ast.parse(python_of(cell))))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                words.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    return words


def exercises_of(cells: list[str], known: Sequence[Entry]) -> list[str]:
    """Find which exercises a submission is about, in the book's order.

    All exercises of a section count as soon as one of them is mentioned, so that leaving one out
    shows as missing.
    """
    words = _words(cells)
    sections = {(entry.chapter, entry.notebook) for entry in known if entry.name in words}
    return [entry.name for entry in known if (entry.chapter, entry.notebook) in sections]


def grade_cells(
    student: str, cells: list[str], names: Sequence[str], limits: Limits
) -> Iterator[Grade]:
    """Yield a grade for each exercise of one notebook.

    After an exercise that breaks the notebook's process it goes on in a fresh one.
    """
    left = list(names)
    while left:
        begun = False
        try:
            total = limits.time_s * len(left)
            with session(
                cells,
                load_s=limits.load_s,
                time_s=total,
                wall_s=limits.wall_s,
                memory_mb=limits.memory_mb,
            ) as talk:
                begun = True
                while left:
                    yield _grade_one(student, find_exercise(left[0]), talk, limits)
                    left.pop(0)
        except SessionLost as lost:
            stopped = left[:1] if begun else left
            for name in stopped:
                yield Grade(student, name, "stopped", str(lost), 0)
            left = left[len(stopped) :]


def _grade_one(student: str, exercise: Exercise, talk: Session, limits: Limits) -> Grade:
    talk.allow(limits.time_s)
    answer = talk.symbol(exercise.symbol)
    if answer is None:
        message = f"the notebook defines no {exercise.symbol}"
        return Grade(student, exercise.name, "missing", message, 0)
    outcome = exercise.evaluate(answer)
    points = exercise.points if outcome.status == "passed" else 0
    return Grade(student, exercise.name, outcome.status, outcome.message, points)


def find_notebooks(paths: Sequence[Path]) -> list[Path]:
    """Look for notebooks in folders, and in those below; Jupyter's checkpoints are left out.

    What is named twice is found once. A file is taken as it is, also one that does not exist.
    """
    found: dict[str, Path] = {}
    for path in paths:
        inside = sorted(path.rglob("*.[iI][pP][yY][nN][bB]")) if path.is_dir() else [path]
        for notebook in inside:
            if not (path.is_dir() and ".ipynb_checkpoints" in notebook.parts):
                found.setdefault(os.path.normpath(notebook.absolute()), notebook)
    return list(found.values())


def students(notebooks: Sequence[Path]) -> list[str]:
    """Call each notebook by its path, without what all have in front and without the suffix.

    Example:
        >>> students([Path("submitted/ada/hw.ipynb"), Path("submitted/bob/hw.ipynb")])
        ['ada/hw', 'bob/hw']
    """
    whole = [Path(os.path.normpath(path.absolute())) for path in notebooks]
    shared = os.path.commonpath([path.parent for path in whole]) if whole else ""
    below = [path.relative_to(shared) for path in whole]
    names = [path.with_suffix("").as_posix() for path in below]
    return [
        path.as_posix() if names.count(name) > 1 else name
        for path, name in zip(below, names, strict=True)
    ]


def grade_notebook(
    path: Path,
    names: Sequence[str] = (),
    limits: Limits | None = None,
    *,
    student: str | None = None,
) -> list[Grade]:
    """Grade the named exercises of one submission, or else those of the sections it mentions.

    A submission that cannot be graded gets a single grade, which says why. Without a name the
    student is called by the file's.
    """
    student = path.stem if student is None else student
    try:
        cells = read_cells(path)
    except ValueError as error:
        return [Grade(student, "", "unreadable", str(error), 0)]
    chosen = list(names) or exercises_of(cells, entries())
    if not chosen:
        return [Grade(student, "", "missing", "it mentions no exercise of the book", 0)]
    return list(grade_cells(student, cells, chosen, limits or Limits()))


def to_csv(grades: Sequence[Grade]) -> str:
    """Lay grades out as a table with a header, in CSV.

    A cell that a spreadsheet would compute is given a leading apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([field.name for field in fields(Grade)])
    for grade in grades:
        cells = [str(cell) for cell in astuple(grade)]
        writer.writerow(
            ["'" + cell if cell[:1] in ("=", "+", "-", "@") else cell for cell in cells]
        )
    return out.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Grade what the command line names; return 2 for an unknown exercise or no notebook."""
    default = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m llmlib.teaching.grade",
        description="Grade submitted notebooks in a sandbox; the table goes to standard output.",
    )
    parser.add_argument("notebooks", nargs="+", type=Path, help="files, or folders of them")
    parser.add_argument(
        "--exercise", action="append", default=[], help="grade this one; repeatable"
    )
    parser.add_argument("--output", type=Path, help="write the table to this file")
    parser.add_argument(
        "--time", type=float, default=default.time_s, help="processor seconds an exercise"
    )
    parser.add_argument("--memory", type=int, default=default.memory_mb, help="MiB a notebook")
    options = parser.parse_args(arguments)
    limits = Limits(time_s=options.time, memory_mb=options.memory)
    try:
        for name in options.exercise:
            find_exercise(name)
    except KeyError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    grades: list[Grade] = []
    notebooks = find_notebooks(options.notebooks)
    if not notebooks:
        print("no notebook lies in these folders", file=sys.stderr)
        return 2
    for number, (path, student) in enumerate(zip(notebooks, students(notebooks), strict=True), 1):
        mine = grade_notebook(path, options.exercise, limits, student=student)
        grades += mine
        count = sum(grade.outcome == "passed" for grade in mine)
        where = f"[{number}/{len(notebooks)}] {student.removesuffix(path.suffix)}{path.suffix}"
        print(f"{where}: {count} of {len(mine)} passed", file=sys.stderr)
    text = to_csv(grades)
    if options.output:
        atomic_write(options.output, text)
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
