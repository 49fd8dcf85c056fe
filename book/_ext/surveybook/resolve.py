"""Names in signatures: our own become links, outside ones are checked to exist and left as text.

The book is built offline, so there is no inventory of torch or numpy to ask. A name that neither
Python nor the module it stands in knows stays unresolved, and the nitpicky build fails on it.
"""

import importlib
import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_sig_literal_string, pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from surveybook.coverage import canonical, find, symbol_uri

PREFIXES = re.compile(r"(?<![\w.])(?:jaxtyping|typing|collections\.abc|pathlib|torch)\.(?=[A-Z])")


# Where a name may come from once autodoc has cut it to its last part.
OUTSIDE = ("builtins", "typing", "collections.abc", "pathlib", "torch", "numpy", "numpy.typing")


def _in_module(module: str | None, target: str) -> object | None:
    """What `target` means inside `module` or one of the outside ones, or None."""
    for place in (module, *OUTSIDE):
        found: object = importlib.import_module(place) if place else None
        for part in target.split("."):
            found = getattr(found, part, None)
        if found is not None:
            return found
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
    try:
        found: object | None = find(target)
    except ValueError:
        found = _in_module(node.get("py:module"), target)
    if found is None:
        return content if target == "None" else None
    home = getattr(found, "__module__", "") or ""
    if home.startswith("llmlib.") and hasattr(found, "__qualname__"):
        name = canonical(f"{home}.{found.__qualname__}")  # pyright: ignore[reportOptionalMemberAccess]
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
    """Write `Float[Tensor, 'B T']`, as the source does, not `jaxtyping.Float[torch.Tensor, ...]`."""
    if signature is None and returns is None:
        return None
    return tuple(PREFIXES.sub("", part) if part else part for part in (signature, returns))  # pyright: ignore[reportReturnType]


def double_quotes(app: Sphinx, domain: str, objtype: str, content: nodes.Element) -> None:
    """Shapes keep the double quotes of the source."""
    for node in list(content.findall(desc_sig_literal_string)):
        text = node.astext()
        if text.startswith("'") and text.endswith("'"):
            node.clear()
            node += nodes.Text(f'"{text[1:-1]}"')


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", shorten)
    app.connect("object-description-transform", double_quotes)
