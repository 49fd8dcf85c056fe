"""What the book adds to Sphinx: the coverage table, chapter plans, and a library reference.

Each module does one thing and is given everything by `book/coverage.csv` and the package tree, so
that no list is kept by hand.
"""

from importlib import import_module
from typing import Any

from sphinx.application import Sphinx

PARTS = (
    "api",
    "coverage_page",
    "docstrings",
    "museum",
    "plotly",
    "quiet",
    "resolve",
    "sections",
    "sources",
    "teaching",
)
"""Its modules that register something with Sphinx."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register every part of the extension."""
    for part in PARTS:
        import_module(f"{__name__}.{part}").setup(app)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
