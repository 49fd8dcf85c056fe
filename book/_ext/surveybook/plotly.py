"""Load plotly on the pages that draw with it, and only there: it weighs as much as a small book."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def add_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add the vendored script to a page whose outputs call it."""
    raw = doctree.findall(nodes.raw) if doctree is not None else ()
    if any("Plotly." in node.astext() for node in raw):
        app.add_js_file("vendor/plotly.min.js", priority=200)


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("html-page-context", add_script)
