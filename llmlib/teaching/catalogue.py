"""Find exercises by name, without importing the checks of the whole book."""

from __future__ import annotations

import ast
import functools
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmlib.core.nearest import did_you_mean

if TYPE_CHECKING:
    from llmlib.teaching.authoring import Exercise

_CHECKS = Path(__file__).parent / "checks"


@dataclass(frozen=True)
class Entry:
    """What the source of a check says about an exercise, before it is imported."""

    name: str
    chapter: str
    """The folder's name."""
    notebook: str
    """Its file without suffix."""
    title: str
    """A few words for lists."""
    module: str
    """Where it is constructed, as a dotted name."""


@functools.cache
def entries() -> tuple[Entry, ...]:
    """List every exercise of the book by chapter, notebook and place in the file."""
    return read_checks(_CHECKS)


def read_checks(folder: Path) -> tuple[Entry, ...]:
    """List the exercises of a folder of checks, and of those in it, from the sources alone.

    Each module says `NOTEBOOK = "CHAPTER/NOTEBOOK"` and calls `Exercise("name", ...)`.

    Raises:
        ValueError: If a string that is needed is computed, or two exercises have one name.
    """
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        for entry in _read(path, ".".join(["llmlib.teaching.checks", *parts])):
            if entry.name in found:
                raise ValueError(
                    f"{entry.module} and {found[entry.name].module} each have an exercise "
                    f"{entry.name!r}: rename one"
                )
            found[entry.name] = entry
    return tuple(sorted(found.values(), key=lambda entry: (entry.chapter, entry.notebook)))


def _read(path: Path, module: str) -> Iterator[Entry]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Exercise"
    ]
    if not calls:
        return
    chapter, _, notebook = _literal(_assigned(tree), f"{module}: NOTEBOOK").partition("/")
    for call in calls:
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        where = f"{module}, line {call.lineno}: Exercise's"
        name = _literal(call.args[0] if call.args else keywords.get("name"), f"{where} name")
        title = _literal(keywords.get("title", ast.Constant("")), f"{where} title")
        yield Entry(name, chapter, notebook, title, module)


def _assigned(tree: ast.Module) -> ast.expr | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NOTEBOOK":
            return node.value
    return None


def _literal(node: ast.expr | None, what: str) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError(f"{what} must be there as a literal string")


def entry_of(name: str) -> Entry:
    """Return what the source says of an exercise.

    Raises:
        KeyError: If no exercise has that name; the message names the nearest.
    """
    known = {entry.name: entry for entry in entries()}
    if name not in known:
        raise KeyError(f"no exercise is called {name!r}{did_you_mean(str(name), sorted(known))}")
    return known[name]


def find_exercise(name: str) -> Exercise:
    """Return an exercise, importing the module of its checks if need be; see `entry_of`."""
    from llmlib.teaching.authoring import REGISTRY

    if name not in REGISTRY:
        importlib.import_module(entry_of(name).module)
    return REGISTRY[name]
