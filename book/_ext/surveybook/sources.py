"""The tests that prove a row, as pages of the book: a reader can read the proof offline."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

from surveybook.coverage import load, table_path

DEFINITION = re.compile(r"^\s*(?:async )?(?:def|class) (\w+)")


def page_of(test: str) -> str:
    """`tests/a/test_b.py::test_c` is shown on page `tests/a/test_b`."""
    return test.partition("::")[0].removesuffix(".py")


def test_uri(app: Sphinx, docname: str, test: str) -> str:
    """Relative address of a test's source."""
    here = app.builder.get_target_uri(docname)
    uri = relative_uri(here, f"{page_of(test)}.html")
    name = test.rpartition("::")[2].partition("[")[0]
    return f"{uri}#{name}" if "::" in test else uri


test_uri.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]  # not a test, though named so


def anchored(highlighted: str, source: str) -> str:
    """Put an anchor before each definition of a highlighted source."""
    before, opening, rest = highlighted.partition("<pre>")
    lines = rest.split("\n")
    for number, text in enumerate(source.splitlines()):
        found = DEFINITION.match(text)
        if found:
            lines[number] = f'<span id="{found[1]}"></span>{lines[number]}'
    return before + opening + "\n".join(lines)


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yields: a page for each file that holds a proving test."""
    highlighter = getattr(app.builder, "highlighter", None)
    if highlighter is None:
        return
    tests = {test.partition("::")[0] for row in load(table_path(app)) for test in row.tests}
    for name in sorted(tests):
        source = (Path(app.srcdir) / name).read_text(encoding="utf-8")
        body = anchored(highlighter.highlight_block(source, "python", linenos=False), source)
        title = html.escape(name)
        context = {"title": title, "body": f"<h1>{title}</h1>{body}"}
        yield page_of(name), context, "page.html"


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("html-collect-pages", pages)
