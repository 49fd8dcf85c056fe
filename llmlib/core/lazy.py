"""A package's face: the names that its readers import, each loaded on first use."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_face(
    package: str,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Offer under a package's name what its `if TYPE_CHECKING:` block imports, on first use.

    The block is the one list of the names: type checkers, the book and this function read it.
    Whoever imports one name then waits for the module behind it alone, not for torch.

    Returns:
        The package's `__getattr__`, `__dir__` and `__all__`.

    Raises:
        ValueError: If a name is also one of the package's modules: which of the two it stands for
            would depend on what was imported before.

    Example:
        >>> import llmlib.scaling
        >>> "ChinchillaLaw" in llmlib.scaling.__all__, "chinchilla" in llmlib.scaling.__all__
        (True, False)

    References:
        PEP 562 (module `__getattr__`).
    """
    module = sys.modules[package]
    file = Path(str(module.__file__))
    homes = _typed_imports(file)
    for name in homes:
        if any((file.parent / inner).is_file() for inner in (f"{name}.py", f"{name}/__init__.py")):
            raise ValueError(f"{package} offers {name}, but {package}.{name} is a module: rename")

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, inner = homes[name]
        found = getattr(import_module(home), inner)
        setattr(module, name, found)  # the next look-up does not come here
        return found

    return find, lambda: sorted({*vars(module), *homes}), sorted(homes)


def _typed_imports(file: Path) -> dict[str, tuple[str, str]]:
    """Read the module and the name there behind each name of the block."""
    blocks = (
        node.body
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = (node for block in blocks for node in block if isinstance(node, ast.ImportFrom))
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in imports
        for alias in node.names
    }
