"""The library reference: one page a subpackage, written from the package tree at build time.

A floor's page holds its own modules and leads to the pages of its subpackages; folders deeper down
stand on their subpackage's page. `tools/book/build.py` lays the pages empty, and their text is made
here, so that a new module or subpackage appears by itself.
"""

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from surveybook.coverage import REFERENCE, canonical
from surveybook.docstrings import inline


def subpackages(package: str) -> list[str]:
    """Dotted names of the subpackages that have pages of their own: those of a floor."""
    if package.count(".") > 1:
        return []
    folders = (path.parent.name for path in _folder(package).glob("*/__init__.py"))
    return [f"{package}.{name}" for name in sorted(folders)]


def modules(package: str) -> list[str]:
    """Dotted names of the public modules on a package's page, folders after files."""
    pattern = "*.py" if subpackages(package) else "**/*.py"
    paths = [
        path.relative_to(_folder(package)).with_suffix("")
        for path in _folder(package).glob(pattern)
        if not path.name.startswith("_")
    ]
    paths.sort(key=lambda path: (len(path.parts), path.parts))
    return [".".join((package, *path.parts)) for path in paths]


def _folder(package: str) -> Path:
    return Path(str(importlib.import_module(package).__file__)).parent


def summary(obj: object) -> str:
    """First sentence of a docstring, on one line."""
    text = inspect.cleandoc(getattr(obj, "__doc__", None) or "")
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def heading(text: str, line: str) -> list[str]:
    """Lines of a heading, underlined with `line`."""
    return [text, line * len(text), ""]


def table(rows: dict[str, str]) -> list[str]:
    """A table of names, each with what it stands for."""
    lines = [".. list-table::", "   :widths: 30 70", "   :class: public-names", ""]
    for shown, text in rows.items():
        lines += [f"   * - {shown}", f"     - {text}"]
    return [*lines, ""] if rows else []


def public_names(module: ModuleType) -> dict[str, str]:
    """What `from PACKAGE import ...` offers, as links with their summaries."""
    rows = {}
    for name in sorted(getattr(module, "__all__", ()), key=str.lower):
        obj = getattr(module, name)
        if inspect.isclass(obj) or inspect.isroutine(obj):
            target = canonical(f"{module.__name__}.{name}")
            rows[f":py:obj:`{name} <{target}>`"] = inline(summary(obj))
        else:
            rows[f"``{name}``"] = ""
    return rows


def page(package: str) -> str:
    """The whole page of one subpackage, in reStructuredText."""
    module = importlib.import_module(package)
    lines = heading(package, "=") + [f".. automodule:: {package}", ""]
    names = public_names(module)
    if names:
        lines += [f"Import these with ``from {package} import NAME``:", "", *table(names)]
    inner = {
        f":doc:`{name} </{REFERENCE}{name}>`": inline(summary(importlib.import_module(name)))
        for name in subpackages(package)
    }
    lines += table(inner)
    own = modules(package)
    if not own and not names and not inner:
        lines += ["Planned: no module of this floor is written yet.", ""]
    for name in own:
        lines += heading(name.removeprefix(f"{package}."), "-")
        lines += [f".. automodule:: {name}", "   :members:", ""]
    return "\n".join(lines)


def write(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fill an empty reference page."""
    if docname.startswith(f"{REFERENCE}llmlib."):
        source[0] = page(docname.removeprefix(REFERENCE))


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Sequence[str]:
    """Docstrings live outside the pages, so the reference is written anew at each build."""
    return [name for name in env.found_docs if name.startswith(REFERENCE)]


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("source-read", write)
    app.connect("env-get-outdated", outdated)
