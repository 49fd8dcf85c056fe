"""Find exercises by name, without importing the checks of the whole book."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .authoring import Exercise

_CHECKS = Path(__file__).parent / "checks"


@dataclass(frozen=True)
class Entry:
    """What the source of a check says about an exercise, before it is imported.

    Attributes:
        name: The exercise's name.
        chapter: Its chapter's folder.
        notebook: Its notebook.
        title: A few words for lists.
        module: The module that constructs it.
    """

    name: str
    chapter: str
    notebook: str
    title: str
    module: str


@functools.cache
def entries() -> tuple[Entry, ...]:
    """List every exercise of the book.

    They are read from the sources of `llmlib.teaching.checks`, where `Exercise(...)` is called with
    literal strings, so that listing them imports nothing.

    Returns:
        The exercises by chapter, notebook and place in the file.

    Raises:
        ValueError: If a call of `Exercise` in a check has no literal name, chapter or notebook.
    """
    found = []
    for path in sorted(_CHECKS.rglob("*.py")):
        module = ".".join(
            ["llmlib.teaching.checks", *path.relative_to(_CHECKS).with_suffix("").parts]
        )
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Exercise":
                found.append(_entry(node, module))
    return tuple(sorted(found, key=lambda entry: (entry.chapter, entry.notebook)))


def _entry(call: ast.Call, module: str) -> Entry:
    """Read one call of `Exercise`.

    Returns:
        The entry.

    Raises:
        ValueError: If a string it needs is computed.
    """
    values = {keyword.arg: keyword.value for keyword in call.keywords}
    if call.args:
        values["name"] = call.args[0]
    strings = {
        key: node.value
        for key, node in values.items()
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    try:
        name, chapter, notebook = (strings[key] for key in ("name", "chapter", "notebook"))
    except KeyError as error:
        raise ValueError(
            f"{module}, line {call.lineno}: write Exercise's {error} as a literal string"
        ) from None
    return Entry(name, chapter, notebook, strings.get("title", ""), module)


def find(name: str) -> Exercise:
    """Return an exercise, importing the module of its checks if need be.

    Args:
        name: The exercise's name.

    Returns:
        The exercise.

    Raises:
        KeyError: If no exercise has that name; the message names the nearest.
    """
    from .authoring import REGISTRY

    if name not in REGISTRY:
        for entry in entries():
            if entry.name == name:
                importlib.import_module(entry.module)
    if name not in REGISTRY:
        known = sorted({*REGISTRY, *(entry.name for entry in entries())})
        near = difflib.get_close_matches(str(name), known, n=1)
        ending = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no exercise is called {name!r}{ending}")
    return REGISTRY[name]
