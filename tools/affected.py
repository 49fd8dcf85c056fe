"""What a change can affect: the tests, doctests, exercises, experiments and notebooks to run again.

`make check CHANGED=1` and `make notebooks CHANGED=1` compare the working tree with HEAD. A test is
affected when it, or a module that it reaches by imports (import_graph.py), changed. Continuous
integration runs everything.
"""

import ast
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from import_graph import ImportGraph, strings
from project import ROOT, notebook_code, notebooks

EVERYTHING = {"tests/conftest.py", "pyproject.toml", "constraints.txt"}
"""What every test depends on."""
RESOURCES = "llmlib/core/resources.py"
"""Through it everything reads what lies in `data`."""
EXERCISES, EXPERIMENTS = "exercises", "experiments"
LISTINGS = {
    ("llmlib.teaching.catalogue", "entries"): EXERCISES,
    ("llmlib.experiments.catalogue", "modules"): EXPERIMENTS,
}
"""A test that imports one of these goes through all exercises or experiments, as no import shows:
its cases are affected one by one."""


@dataclass(frozen=True)
class Affected:
    """What to run again, as paths relative to the root.

    Attributes:
        changed: The changed files that are still there.
        everything: Whether no test can be left out.
        tests: Test files to run whole.
        cases: Of further test files, the exercises or experiments whose cases are to run.
        doctests: Modules whose examples are to run.
        notebooks: Notebooks to execute.
    """

    changed: list[str] = field(default_factory=list)
    everything: bool = False
    tests: list[str] = field(default_factory=list)
    cases: dict[str, list[str]] = field(default_factory=dict)
    doctests: list[str] = field(default_factory=list)
    notebooks: list[str] = field(default_factory=list)


def changed_files(root: Path = ROOT) -> set[str]:
    """Return what differs from HEAD or is untracked, removed files included."""
    found: set[str] = set()
    for command in (
        ["git", "diff", "--name-only", "--no-renames", "-z", "HEAD"],
        ["git", "ls-files", "--others", "--exclude-standard", "-z"],
    ):
        done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
        found |= set(filter(None, done.stdout.split("\0")))
    return found


def exercise_files(root: Path) -> dict[str, set[str]]:
    """Return, by the exercise's name, its module, its solution and its notebook."""
    from llmlib.teaching.catalogue import read_checks

    return {
        entry.name: {
            f"{entry.module.replace('.', '/')}.py",
            f"chapters/{entry.chapter}/solutions/{entry.name}.py",
            f"chapters/{entry.chapter}/{entry.notebook}.ipynb",
        }
        for entry in read_checks(root / "llmlib" / "teaching" / "checks")
    }


def experiment_files(root: Path) -> dict[str, set[str]]:
    """Return, by the experiment's name, its module."""
    from llmlib.experiments.catalogue import declared_in

    declared = declared_in(root / "llmlib" / "experiments")
    return {name: {f"{module.replace('.', '/')}.py"} for name, module in declared.items()}


def is_module(path: str) -> bool:
    return path.endswith(".py") and path.startswith(("llmlib/", "tests/", "tools/", "book/_ext/"))


def is_data(path: str) -> bool:
    """Say whether a file may be a resource: neither code nor book nor notebook nor of the root."""
    return "/" in path and not path.startswith(("book/", "chapters/", "tests/", "tools/", "."))


class Selection:
    """What one change affects."""

    def __init__(self, root: Path, changed: Iterable[str]) -> None:
        self.root, self.changed = root, set(changed)
        gone = {path for path in self.changed if not (root / path).is_file()}
        self.graph = ImportGraph(root, gone=gone)
        self.touched = {path for path in self.changed if is_module(path)}
        # What no import leads to: a test that names such a file or its folder may read it.
        self.read = self.changed - self.touched
        if any(map(is_data, self.read)):
            self.touched.add(RESOURCES)
        self.subjects: dict[str, Mapping[str, set[str]]] = {
            EXERCISES: exercise_files(root),
            EXPERIMENTS: experiment_files(root),
        }

    @cached_property
    def names(self) -> set[str]:
        """What a test that reads one of the changed files may call it: its name or its folder."""
        parts = [PurePosixPath(path).parts for path in self.read]
        folders = {part[0] for part in parts if len(part) > 1} - {"tests"}
        suffixes = {f"*{PurePosixPath(path).suffix}" for path in self.read}
        return folders | {part[-1] for part in parts} | suffixes

    def reached(self, path: str) -> bool:
        """Say whether a file or something that it imports changed."""
        return bool(self.graph.closure(path) & self.touched)

    @cached_property
    def affected_subjects(self) -> dict[str, list[str]]:
        """The exercises and the experiments that are affected, by name."""
        return {
            kind: sorted(
                name
                for name, files in subjects.items()
                if files & self.changed or any(self.reached(f) for f in files if f[-3:] == ".py")
            )
            for kind, subjects in self.subjects.items()
        }

    def names_subject(self, tree: ast.AST) -> bool:
        """Say whether a source names an affected exercise or experiment in a string."""
        named = set(strings(tree))
        return any(not named.isdisjoint(names) for names in self.affected_subjects.values())

    def reads(self, path: str) -> bool:
        """Say whether a test names a changed file that no import leads to, or lies beside one."""
        beside = {str(PurePosixPath(other).parent) for other in self.read if "/" in other}
        if str(PurePosixPath(path).parent) in beside:
            return True
        named = {part for text in strings(self.graph.tree(path)) for part in text.split("/")}
        return not self.names.isdisjoint(named)

    def above(self, path: str) -> list[str]:
        """Return the `conftest.py` files of a test's folders, without the suite's own."""
        folders = list(PurePosixPath(path).parents)[:-2]
        return list(filter(self.graph.exists, (f"{folder}/conftest.py" for folder in folders)))

    def listing(self, path: str) -> str | None:
        """Say whether a test file goes through the exercises or through the experiments."""
        imported = self.graph.re_exports(path).values()
        return next((LISTINGS[home] for home in imported if home in LISTINGS), None)

    def tests(self) -> tuple[list[str], dict[str, list[str]]]:
        """Return the test files to run whole, and the cases to run of others."""
        whole, cases = [], {}
        for path in self.files("tests", "test_*.py"):
            if path.startswith("tests/book/"):
                continue  # they read a built book
            kind = self.listing(path)
            if any(map(self.reached, (path, *self.above(path)))):
                whole.append(path)
            elif kind and self.affected_subjects[kind]:
                cases[path] = self.affected_subjects[kind]
            elif not kind and (self.reads(path) or self.names_subject(self.graph.tree(path))):
                whole.append(path)
        return whole, cases

    def files(self, folder: str, pattern: str) -> list[str]:
        found = sorted((self.root / folder).rglob(pattern))
        return [path.relative_to(self.root).as_posix() for path in found]

    def doctests(self) -> list[str]:
        return [
            path
            for path in self.files("llmlib", "*.py")
            if ">>>" in (self.root / path).read_text(encoding="utf-8") and self.reached(path)
        ]

    def notebooks(self) -> list[str]:
        """Return the notebooks that changed, or whose code reaches what changed."""
        found = []
        for file in notebooks(self.root):
            path, code = file.relative_to(self.root).as_posix(), notebook_code(file)
            reached = self.graph.reach(self.graph.of_source(code, path))
            if path in self.changed or reached & self.touched or self.names_subject(code):
                found.append(path)
        return found


def affected(root: Path, changed: Iterable[str]) -> Affected:
    """Return what a change of some files affects.

    Args:
        root: The repository.
        changed: The files, relative to it; they may be gone.
    """
    selection = Selection(root, changed)
    there = sorted(path for path in selection.changed if (root / path).is_file())
    everything = not EVERYTHING.isdisjoint(selection.changed)
    tests, cases = selection.tests()
    return Affected(there, everything, tests, cases, selection.doctests(), selection.notebooks())
