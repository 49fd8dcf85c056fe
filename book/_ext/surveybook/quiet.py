"""Leave out what Jupyter Book loads for running cells in a page: this book starts no kernel.

The script is declared twice, which is an error in the reader's console, and names a remote address.
"""

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def without_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Drop Thebe's scripts and style sheet from a page."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context.get(kind, [])
            if "thebe" not in f"{file}{getattr(file, 'attributes', {}).get('body') or ''}".lower()
        ]


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("html-page-context", without_thebe, priority=900)
