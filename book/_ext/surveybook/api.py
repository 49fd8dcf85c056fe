"""The library reference: one page a subpackage, written from the package tree at build time.

`book/api/llmlib.NAME.rst` is an empty page that says only which subpackage it is for; its text is
made here, so a new module appears by itself.
"""

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from surveybook.coverage import canonical
from surveybook.docstrings import inline

FOLDER = "book/api/"


def modules(package: str) -> list[str]:
    """Dotted names of a package's public modules, folders after files."""
    root = Path(str(importlib.import_module(package).__file__)).parent
    paths = [
        path.relative_to(root).with_suffix("")
        for path in root.rglob("*.py")
        if not any(part.startswith("_") for part in path.relative_to(root).parts)
    ]
    paths.sort(key=lambda path: (len(path.parts), path.parts))
    return [".".join((package, *path.parts)) for path in paths]


def summary(obj: object) -> str:
    """First sentence of a docstring, on one line."""
    text = inspect.cleandoc(getattr(obj, "__doc__", None) or "")
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def heading(text: str, line: str) -> list[str]:
    """Lines of a heading, underlined with `line`."""
    return [text, line * len(text), ""]


def public_names(module: ModuleType) -> list[str]:
    """A table of what `from PACKAGE import ...` offers."""
    names = [name for name in getattr(module, "__all__", []) if hasattr(module, name)]
    if not names:
        return []
    lines = [".. list-table::", "   :widths: 30 70", "   :class: public-names", ""]
    for name in sorted(names, key=str.lower):
        obj = getattr(module, name)
        if isinstance(obj, ModuleType):
            target = obj.__name__
        else:
            target = canonical(f"{module.__name__}.{name}")
        documented = inspect.isclass(obj) or inspect.isroutine(obj) or isinstance(obj, ModuleType)
        shown = f":py:obj:`{name} <{target}>`" if documented else f"``{name}``"
        lines += [f"   * - {shown}", f"     - {inline(summary(obj)) if documented else ''}"]
    return [*lines, ""]


def page(package: str) -> str:
    """The whole page of one subpackage, in reStructuredText."""
    module = importlib.import_module(package)
    lines = heading(package, "=") + [f".. automodule:: {package}", ""]
    table = public_names(module)
    if table:
        lines += [f"Import these with ``from {package} import NAME``:", "", *table]
    own = modules(package)
    if not own and not table:
        lines += ["Planned: no module of this floor is written yet.", ""]
    for name in own:
        lines += heading(name.removeprefix(f"{package}."), "-")
        lines += [f".. automodule:: {name}", "   :members:", ""]
    return "\n".join(lines)


def write(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill an empty reference page."""
    if docname.startswith(f"{FOLDER}llmlib."):
        source[0] = page(docname.removeprefix(FOLDER))


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Sequence[str]:
    """Docstrings live outside the pages, so the reference is written anew at each build."""
    return [name for name in env.found_docs if name.startswith(FOLDER)]


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("source-read", write)
    app.connect("env-get-outdated", outdated)
