"""Load plotly on the pages that draw with it, and only there: it weighs as much as a small book."""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def add_script(
    app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add the vendored script to a page whose outputs call it."""
    if doctree is not None and any("Plotly." in node.astext() for node in doctree.findall(nodes.raw)):
        app.add_js_file("vendor/plotly.min.js", priority=200)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", add_script)
