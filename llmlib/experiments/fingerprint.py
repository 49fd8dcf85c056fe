"""A hash of the code that decides what an experiment measures.

From `measure`, every definition that it names is followed, through the module and through whatever
it imports from `llmlib.experiments`; modules that the experiment says it depends on count whole.
Comments, docstrings, white space and the place of a definition do not count, nor do claims, tables
and what else `measure` never reaches.
"""

import ast
import hashlib
import importlib.util
import re
from functools import cache
from pathlib import Path

from llmlib.experiments.experiment import Experiment

_FOLLOWED = "llmlib.experiments"
Definition = tuple[str, str]


def fingerprint(experiment: Experiment) -> str:
    """Hash the code behind an experiment's numbers.

    Args:
        experiment: The experiment.

    Returns:
        Sixteen hexadecimal digits, the same on every machine and Python.
    """
    texts = reached(experiment.measure.__module__, experiment.measure.__name__)
    parts = sorted(texts.values()) + [_plain(_source(module)) for module in experiment.depends]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def reached(module: str, name: str) -> dict[Definition, str]:
    """Follow a definition to all that it needs within the experiments.

    Args:
        module: Dotted name of the module that it stands in.
        name: Its name.

    Returns:
        The source of each definition without what does not count, by module and name.
    """
    found: dict[Definition, str] = {}
    waiting = [(module, name)]
    while waiting:
        at = waiting.pop()
        definitions, imports = _read(at[0])
        if at in found or at[1] not in definitions:
            continue
        node, text = definitions[at[1]]
        found[at] = text
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                home = imports.get(part.value.id)
                if home and home[1] == "":  # a module's name
                    waiting.append((home[0], part.attr))
            if isinstance(part, ast.Name):
                waiting.append(imports.get(part.id, (at[0], part.id)))
    return found


@cache
def _read(module: str) -> tuple[dict[str, tuple[ast.stmt, str]], dict[str, Definition]]:
    """List a module's definitions, and where the names that it imports are defined."""
    source = _source(module)
    lines = source.splitlines(keepends=True)
    definitions: dict[str, tuple[ast.stmt, str]] = {}
    imports: dict[str, Definition] = {}
    for node in ast.parse(source).body:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(d.lineno for d in decorators)])
        text = "".join(lines[first - 1 : node.end_lineno])
        for name in _names(node):
            definitions[name] = (node, _plain(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(_FOLLOWED):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                home = (inner, "") if _is_module(inner) else (str(node.module), alias.name)
                imports[alias.asname or alias.name] = home
    return definitions, imports


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    return [part.id for t in targets for part in ast.walk(t) if isinstance(part, ast.Name)]


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a module and no package
        return False


def _source(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"there is no module {module} to depend on")
    return Path(spec.origin).read_text(encoding="utf-8")


def _plain(source: str) -> str:
    """Drop docstrings, comments and all white space outside of strings.

    Strings keep theirs: a prompt with a space more is another prompt.
    """
    tree = ast.parse(source)
    drop: list[tuple[int, int, int, int]] = []
    strings: list[tuple[int, int, int, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            drop.append(_span(node))
        elif isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        ):
            strings.append(_span(node))
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    text = b"".join(lines)

    def place(span: tuple[int, int, int, int]) -> tuple[int, int]:
        return starts[span[0] - 1] + span[1], starts[span[2] - 1] + span[3]

    kept: list[str] = []
    at = 0
    for begin, end, is_string in sorted(
        [(*place(span), False) for span in drop] + [(*place(span), True) for span in strings]
    ):
        if begin < at:  # a part of a string that is kept whole
            continue
        kept.append(_squeezed(text[at:begin].decode()))
        kept.append(text[begin:end].decode() if is_string else "")
        at = end
    kept.append(_squeezed(text[at:].decode()))
    return "".join(kept)


def _span(node: ast.expr | ast.stmt) -> tuple[int, int, int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.lineno, node.col_offset, node.end_lineno, node.end_col_offset


def _squeezed(code: str) -> str:
    """Remove comments and white space from code that holds no string, and trailing commas."""
    code = re.sub(r"#[^\n]*", "", code)
    return re.sub(r",(?=[)\]}])", "", re.sub(r"\s+", "", code))
