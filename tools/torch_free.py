"""Which source files run without torch, found by following their imports.

A file is free when everything that it imports, and what that imports in turn, is the standard
library, a light package or another free file. Nothing is imported to find out.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LIGHT = {"beartype", "hypothesis", "jaxtyping", "matplotlib", "numpy", "platformdirs", "pytest"}
LIGHT |= {"regex", "rich", "safetensors", "scipy", "typer"}


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(body: list[ast.stmt], *, inside: bool) -> Iterator[ast.stmt]:
    """Yield the statements that run on import, and those of functions where `inside`."""
    for node in body:
        if is_type_checking(node):
            continue
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside:
            continue
        for name in ("body", "orelse", "finalbody"):
            yield from statements(getattr(node, name, []), inside=inside)
        for handler in getattr(node, "handlers", []):
            yield from statements(handler.body, inside=inside)


class Imports:
    """Follows imports through the package `llmlib` below a root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked_by = cache(self._asked_by)

    def file_of(self, module: str) -> Path | None:
        path = self.root.joinpath(*module.split("."))
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
        return None

    def lazy_home(self, module: str, name: str) -> str | None:
        """Return the submodule that a package loads on first use of a name, if it says so."""
        path = self.file_of(module)
        if path is None or path.name != "__init__.py":
            return None
        for block in filter(is_type_checking, ast.parse(path.read_text(encoding="utf-8")).body):
            for node in ast.walk(block):
                if isinstance(node, ast.ImportFrom) and name in {a.name for a in node.names}:
                    return f"{module}.{node.module}" if node.level else node.module
        return None

    def wanted(self, node: ast.stmt, package: str) -> Iterator[str]:
        """Yield the modules that an import statement loads."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, node.module or ""]).rstrip(".") if node.level else node.module
            yield base or ""
            for alias in node.names:
                if self.file_of(f"{base}.{alias.name}"):
                    yield f"{base}.{alias.name}"
                elif home := self.lazy_home(base or "", alias.name):
                    yield home

    def asked_by_file(self, path: Path, package: str = "", *, inside: bool = False) -> set[str]:
        """Return the modules that a file's own import statements load."""
        body = ast.parse(path.read_text(encoding="utf-8")).body
        found = statements(body, inside=inside)
        return {name for node in found for name in self.wanted(node, package)}

    def _asked_by(self, module: str) -> set[str] | None:
        """Return the modules that a module loads, its parent among them; None if it is heavy."""
        top, _, _ = module.partition(".")
        if top != "llmlib":
            return set() if top in sys.stdlib_module_names or top in LIGHT else None
        path, parent = self.file_of(module), module.rpartition(".")[0]
        if path is None:
            return None
        package = module if path.name == "__init__.py" else parent
        return self.asked_by_file(path, package) | ({parent} if parent else set())

    def all_free(self, modules: set[str]) -> bool:
        """Follow imports from these modules until all is seen or something heavy is met."""
        seen, waiting = set(modules), list(modules)
        while waiting:
            asked = self.asked_by(waiting.pop())
            if asked is None:
                return False
            waiting += asked - seen
            seen |= asked
        return True

    def free_module(self, module: str) -> bool:
        return self.all_free({module})

    def free_file(self, path: Path, package: str = "", *, inside: bool = False) -> bool:
        return self.all_free(self.asked_by_file(path, package, inside=inside))


def torch_free_files(root: Path) -> list[Path]:
    """Return the test files and the library's modules (for their doctests) that need no torch.

    What their functions import counts too. The gates, the book and the notebooks' rules are left
    out: they are about the full environment.
    """
    imports = Imports(root)
    left_out = {"gates", "book", "notebooks", "parity", "benchmarks"}
    tests = [
        path
        for path in sorted((root / "tests").rglob("test_*.py"))
        if path.relative_to(root).parts[1] not in left_out
        and all(imports.free_file(c, inside=True) for c in [path, *conftests(path, root)])
    ]
    modules = [
        path
        for path in sorted((root / "llmlib").rglob("*.py"))
        if imports.free_module(module_name(path, root))
        and imports.free_file(path, package_name(path, root), inside=True)
    ]
    return tests + modules


def module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def package_name(path: Path, root: Path) -> str:
    return ".".join(path.parent.relative_to(root).parts)


def conftests(path: Path, root: Path) -> list[Path]:
    """Return the `conftest.py` files that apply to a test, without the suite's own."""
    folders = [folder for folder in path.parents if folder.is_relative_to(root / "tests")]
    found = [folder / "conftest.py" for folder in folders if folder != root / "tests"]
    return [conftest for conftest in found if conftest.is_file()]
