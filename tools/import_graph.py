"""Which files a Python file depends on, read from its source; nothing is imported to find out.

`from llmlib.data import redact` depends on the module that defines `redact`, found by following
the `__init__` files, and on these as text only: each imports its whole floor, and through them all
would depend on all. The risk that stays: an effect of importing a module, on one that never names
it, is not seen.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

NAMED = re.compile(r"\b(?:llmlib|tools)(?:[./]\w+)+")
"""A module or script of the project inside a string: of a program that is started, say."""
IMPORTED = re.compile(r"\bfrom (llmlib[\w.]*) import ([\w, ]+)")
SCRIPT = re.compile(r"[\w./-]+\.py")


def strings(tree: ast.AST) -> Iterator[str]:
    """Yield the string constants of a source, without those that stand alone, as docstrings do."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def chains(tree: ast.AST) -> Iterator[list[str]]:
    """Yield each name of a source with the attributes taken of it: `a.b.c` as [a, b, c]."""
    inner: set[int] = set()
    for node in ast.walk(tree):  # an outer attribute comes before those within
        if id(node) in inner:
            continue
        parts: list[str] = []
        at = node
        while isinstance(at, ast.Attribute):
            parts.append(at.attr)
            at = at.value
            inner.add(id(at))
        if isinstance(at, ast.Name):
            yield [at.id, *reversed(parts)]


class ImportGraph:
    """The files of a repository and what each depends on, as paths relative to its root.

    Args:
        root: The repository.
        sources: Folders whose modules are imported by their bare name.
        gone: Files that were there and still count, so that who imports them is found.
    """

    def __init__(
        self,
        root: Path,
        sources: Iterable[str] = ("tools", "book/_ext"),
        gone: Iterable[str] = (),
    ) -> None:
        self.root, self.sources, self.gone = root, ("", *sources), set(gone)
        self.file_of = cache(self._file_of)
        self.re_exports = cache(self._re_exports)
        self.direct = cache(self._direct)

    def exists(self, path: str) -> bool:
        return path in self.gone or (self.root / path).is_file()

    def tree(self, path: str) -> ast.Module:
        file = self.root / path
        return ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "", filename=path)

    def _file_of(self, module: str) -> str | None:
        """Return the file of a module, a package's being its `__init__.py`."""
        for source in self.sources:
            stem = "/".join(filter(None, (source, *module.split("."))))
            for path in (f"{stem}/__init__.py", f"{stem}.py"):
                if self.exists(path):
                    return path
        return None

    def base(self, node: ast.ImportFrom, path: str) -> str:
        """Return the module from which a statement of a file imports."""
        if not node.level:
            return node.module or ""
        above = path.split("/")[: -node.level]
        return ".".join([*above, *filter(None, [node.module])])

    def defines(self, module: str, name: str) -> set[str]:
        """Return the files on which a name taken from a module depends."""
        if file := self.file_of(f"{module}.{name}"):
            return {file}
        path = self.file_of(module)
        if path is None:
            return set()
        if not path.endswith("/__init__.py"):
            return {path}
        if (home := self.re_exports(path).get(name)) and home != (module, name):
            return {f"{path}:text", *self.defines(*home)}
        return {path}

    def _re_exports(self, path: str) -> dict[str, tuple[str, str]]:
        """Return what a file imports by name: the module and the name there."""
        nodes = [node for node in ast.walk(self.tree(path)) if isinstance(node, ast.ImportFrom)]
        return {
            alias.asname or alias.name: (self.base(node, path), alias.name)
            for node in nodes
            for alias in node.names
        }

    def through(self, module: str, names: list[str]) -> set[str]:
        """Return the files on which `module.name.name...` depends."""
        for position, name in enumerate(names):
            inner = self.file_of(f"{module}.{name}")
            if inner is None:
                return self.defines(module, name)
            module = f"{module}.{name}"
            if not inner.endswith("/__init__.py") or position == len(names) - 1:
                return {inner}
        return set(filter(None, [self.file_of(module)]))

    def imported(self, tree: ast.AST, path: str) -> Iterator[str]:
        """Yield the files that a source's import statements and their uses lead to."""
        packages: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    file = self.file_of(alias.name)
                    bound = alias.name if alias.asname else alias.name.split(".")[0]
                    if file and file.endswith("/__init__.py"):
                        packages[alias.asname or bound] = bound
                    elif file:
                        yield file
            elif isinstance(node, ast.ImportFrom):
                base = self.base(node, path)
                for alias in node.names:
                    inner = self.file_of(f"{base}.{alias.name}")
                    if inner and inner.endswith("/__init__.py"):
                        packages[alias.asname or alias.name] = f"{base}.{alias.name}"
                    elif alias.name == "*":
                        yield from filter(None, [self.file_of(base)])
                    else:
                        yield from self.defines(base, alias.name)
        for first, *names in chains(tree):
            if first in packages:
                yield from self.through(packages[first], names)

    def named(self, tree: ast.AST, path: str) -> Iterator[str]:
        """Yield the files that a source's strings name: programs that are started, say."""
        for text in strings(tree):
            for module, names in IMPORTED.findall(text):
                for name in re.findall(r"\w+", names):
                    yield from self.defines(module, name)
            for match in NAMED.findall(text):
                yield from self.longest(match.removesuffix(".py").replace("/", ".").split("."))
            for script in SCRIPT.findall(text):
                for folder in (Path(path).parent.as_posix(), ""):
                    beside = f"{folder}/{script}".lstrip("/")
                    if beside != path and self.exists(beside):
                        yield beside

    def longest(self, parts: list[str]) -> Iterator[str]:
        """Yield the files of the longest beginning of a dotted name that is a module."""
        for end in range(len(parts), 1, -1):
            module = ".".join(parts[:end])
            path = self.file_of(module)
            if path is None:
                continue
            if end < len(parts) and parts[end] in self.re_exports(path):
                yield from self.defines(module, parts[end])
            else:  # the bare name of a package says nothing of what is taken from it
                yield f"{path}:text" if path.endswith("/__init__.py") else path
                yield from filter(None, [self.file_of(f"{module}.__main__")])
            return

    def of_source(self, tree: ast.AST, path: str) -> set[str]:
        """Return the files on which a source depends directly; `:text` marks those not followed."""
        return {*self.imported(tree, path), *self.named(tree, path)}

    def reach(self, direct: Iterable[str]) -> set[str]:
        """Return these files and all that they depend on."""
        seen, waiting = set(direct), list(direct)
        while waiting:
            path = waiting.pop()
            if path.endswith(".py"):
                new = self.direct(path) - seen
                seen |= new
                waiting += new
        return {path.removesuffix(":text") for path in seen}

    def _direct(self, path: str) -> set[str]:
        return self.of_source(self.tree(path), path)

    def closure(self, path: str) -> set[str]:
        return self.reach([path])
