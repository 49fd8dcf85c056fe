"""A hash of the code that decides what an experiment measures.

From `measure`, every definition that it names is followed, through the module and through whatever
it imports from `llmlib.experiments`; modules that the experiment says it depends on count whole.
Comments, docstrings, layout and the place of a definition do not count, nor do claims, tables and
what else `measure` never reaches.
"""

import ast
import hashlib
import importlib.util
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from llmlib.experiments.experiment import Experiment

_FOLLOWED = "llmlib.experiments"
Definition = tuple[str, str]
"""A module's dotted name and a name in it."""


def fingerprint(experiment: Experiment) -> str:
    """Hash the code behind an experiment's numbers: sixteen hexadecimal digits, on any machine.

    Raises:
        ValueError: If `measure` is no plain function of a module, or a dependency none with a file
            of its own: their code could change unnoticed.
    """
    measure = experiment.measure
    name = getattr(measure, "__qualname__", "")
    if name not in _read(measure.__module__)[0]:
        raise ValueError(
            f"measure is {name or measure!r}: make it a function that stands by itself in its "
            "module, no lambda, method or partial, so that its code can be followed"
        )
    parts = sorted(reached(measure.__module__, name).values())
    for module in experiment.depends:
        if _origin(module).name == "__init__.py":
            raise ValueError(f"{module} is a package: name those of its modules that decide")
        parts.append(_structure(ast.parse(_source(module))))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def reached(module: str, name: str) -> dict[Definition, str]:
    """Follow a definition to all that it needs within the experiments.

    Returns:
        The structure of each definition without what does not count, by module and name.
    """
    found: dict[Definition, str] = {}
    seen: set[Definition] = set()
    waiting = [(module, name)]
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        definitions, imports = _read(at[0])
        waiting += imports.get(at[1], [])
        if at[1] not in definitions:
            continue
        found[at] = "\n".join(map(_structure, definitions[at[1]]))
        for part in (part for node in definitions[at[1]] for part in ast.walk(node)):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                homes = imports.get(part.value.id, [])
                waiting += [(home, part.attr) for home, inner in homes if not inner]
            if isinstance(part, ast.Name):
                waiting.append((at[0], part.id))
    return found


@cache
def _read(module: str) -> tuple[dict[str, list[ast.stmt]], dict[str, list[Definition]]]:
    """List the statements behind each name of a module, and where imported names are defined."""
    tree = ast.parse(_source(module))
    definitions: dict[str, list[ast.stmt]] = {}
    imports: dict[str, list[Definition]] = {}
    for node in tree.body:
        for name in _bound(node):
            definitions.setdefault(name, []).append(node)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, home in _imported(node, module).items():
                imports.setdefault(name, []).append(home)
    return definitions, imports


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _bound(node: ast.stmt) -> set[str]:
    """Name what a statement of a module defines or may change."""
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    parts: list[ast.AST] = [node]
    if isinstance(node, ast.Assign):
        parts = [*node.targets]
    elif isinstance(node, ast.AnnAssign):
        parts = [node.target] if node.value is not None else []
    inner = [one for part in parts for one in ast.walk(part)]
    return {one.id for one in inner if isinstance(one, ast.Name)} | {
        one.name for one in inner if isinstance(one, _DEFINITIONS)
    }


def _imported(node: ast.Import | ast.ImportFrom, module: str) -> dict[str, Definition]:
    """Say where the names come from that a statement imports from the experiments."""
    home, is_relative = getattr(node, "module", None) or "", getattr(node, "level", 0) > 0
    origins = {
        alias.asname or alias.name: f"{home}.{alias.name}".strip(".") for alias in node.names
    }
    if not is_relative and not any(map(_is_followed, origins.values())):
        return {}
    if is_relative or not _is_followed(home) or "*" in origins:
        raise ValueError(
            f"{module}, line {node.lineno}: write `from {_FOLLOWED}.MODULE import NAME`; what is "
            "imported in another way is not followed"
        )
    return {
        name: (origin, "") if _is_module(origin) else (home, origin.rpartition(".")[2])
        for name, origin in origins.items()
    }


def _is_followed(module: str) -> bool:
    return f"{module}.".startswith(f"{_FOLLOWED}.")


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False


def _origin(module: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:  # a program or a notebook: a module without a file to find
        spec = None
    if spec is None or not (spec.origin or "").endswith(".py"):
        raise ValueError(
            f"there is no module {module} with a source to hash: an experiment stands in "
            "llmlib/experiments/CHAPTER/NAME.py, and depends on modules in Python"
        )
    return Path(str(spec.origin))


def _source(module: str) -> str:
    return _origin(module).read_text(encoding="utf-8")


def _structure(node: object) -> str:
    """Write a syntax tree down without places, docstrings and empty fields.

    Later versions of Python add fields, which are empty where nothing new is used. Unlike the
    source without its white space, a tree says which statements stand within which.
    """
    if isinstance(node, list):
        return f"[{','.join(_structure(part) for part in node if not _is_remark(part))}]"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.JoinedStr):
        node = ast.JoinedStr(list(_merged(node.values)))
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llmlib."):
        # Where the project keeps it does not count.
        node = ast.ImportFrom(names=node.names)  # pyright: ignore[reportCallIssue]
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    inner = ",".join(f"{name}={_structure(value)}" for name, value in fields)
    return f"{type(node).__name__}({inner})"


def _merged(parts: list[ast.expr]) -> Iterator[ast.expr]:
    """Join neighboring texts of an f-string, which Python 3.12 leaves in pieces, some empty."""
    for is_text, group in itertools.groupby(parts, lambda part: isinstance(part, ast.Constant)):
        if not is_text:
            yield from group
        elif text := "".join(getattr(part, "value", "") for part in group):
            yield ast.Constant(text)


def _is_remark(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
