"""Names in signatures: our own become links, outside ones are checked to exist and left as text.

The book is built offline, so there is no inventory of torch or numpy to ask. A name that neither
Python nor the module it stands in knows stays unresolved, and the nitpicky build fails on it.
"""

import ast
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_annotation, desc_sig_literal_string, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from surveybook.coverage import REFERENCE, canonical, find, symbol_uri

PREFIXES = re.compile(r"(?<![\w.])(?:jaxtyping|typing|collections\.abc|pathlib|torch)\.(?=[A-Z])")

# Where a name may come from once autodoc has cut it to its last part.
OUTSIDE = ("builtins", "typing", "collections.abc", "pathlib", "torch", "numpy", "numpy.typing")
OUTSIDE += ("jaxtyping",)


@cache
def _imports_for_types(module: str) -> dict[str, tuple[str, str]]:
    """Names that a module imports, those under `if TYPE_CHECKING` too, and where from."""
    source = Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8")
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
        for alias in node.names
    }


@cache
def _meaning(module: str | None, target: str) -> object | None:
    """What `target` means by itself, inside `module` or in one of the outside ones, or None."""
    try:
        return find(target)
    except ValueError:
        pass
    for place in (module, *OUTSIDE):
        found: object = importlib.import_module(place) if place else None
        for part in target.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
    if module and target in _imports_for_types(module):
        place, name = _imports_for_types(module)[target]
        return getattr(importlib.import_module(place), name)
    return None


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a Python name that Sphinx could not."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if target.startswith(("'", '"')):  # a shape, not a name
        return content
    place, _, name = target.partition("[")[0].rpartition(".")
    if place == "jaxtyping" and hasattr(importlib.import_module(place), name):
        return content  # an alias is documented with the whole annotation as one name
    found = _meaning(node.get("py:module"), target)
    if found is None:
        return content if target == "None" else None
    home = getattr(found, "__module__", "") or ""
    qualified = getattr(found, "__qualname__", "")
    if home.startswith("llmlib.") and qualified:
        name = canonical(f"{home}.{qualified}")
        domain = env.get_domain("py")
        if name in domain.data["objects"]:
            docname = node.get("refdoc", env.docname)
            return nodes.reference(
                "", "", content, internal=True, refuri=symbol_uri(app, docname, name)
            )
    return content


def shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str, returns: str
) -> tuple[str | None, str | None] | None:
    """Write `Float[Tensor, 'B T']` as the source does, without the packages' names."""
    if signature is None and returns is None:
        return None
    return tuple(PREFIXES.sub("", part) if part else part for part in (signature, returns))  # pyright: ignore[reportReturnType]


def double_quotes(app: Sphinx, domain: str, objtype: str, content: nodes.Element) -> None:
    """Shapes keep the double quotes of the source."""
    for node in list(content.parent.findall(desc_sig_literal_string)):
        text = node.astext()
        if text.startswith("'") and text.endswith("'"):
            node.clear()
            node += nodes.Text(f'"{text[1:-1]}"')


def short_values(app: Sphinx, domain: str, objtype: str, content: nodes.Element) -> None:
    """A constant's value is shown when it fits on a line; a table's is in the source."""
    for node in list(content.parent.findall(desc_annotation)):
        if node.astext().startswith(" = ") and len(node.astext()) > 72:
            node.parent.remove(node)


def short_types(app: Sphinx, doctree: nodes.document) -> None:
    """The same for the types of attributes, which autodoc writes as plain fields."""
    if app.env.docname.startswith(REFERENCE):
        for text in list(doctree.findall(nodes.Text)):
            if "jaxtyping." in text:
                text.parent.replace(text, nodes.Text(PREFIXES.sub("", text)))


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", shorten)
    app.connect("object-description-transform", double_quotes)
    app.connect("object-description-transform", short_values)
    app.connect("doctree-read", short_types)
