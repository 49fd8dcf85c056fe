"""Docstrings are written as the notebooks are: `code`, $formula$. Sphinx wants its own marks.

The conversion runs before napoleon, which takes care of the sections (Args, Returns, ...).
"""

import re

from sphinx.application import Sphinx

from surveybook.coverage import find

DISPLAY = re.compile(r"^([ \t]*)\$\$(.+?)\$\$[ \t]*([.,;]?)[ \t]*$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(
    r"(?P<done>``.+?``|:[a-z:]+:`[^`]+`)"  # reStructuredText already
    r"|(?P<code>(?<![`:\\])`(?!`)(?P<code_text>[^`]+)`(?!`))"
    r"|(?P<math>(?<![\\$\w])\$(?!\s)(?P<math_text>[^$]+?)(?<![\s\\])\$(?![\w$]))"
)
TRAILING_UNDERSCORE = re.compile(r"(?<=\w)_(?!\w)")
STAR = re.compile(r"(?<!\\)\*(?=\w)")
DOCTEST = re.compile(r"^\s*>>> ")
SECTION = re.compile(r"^\s*(?:Args|Returns|Yields|Raises|Example|Examples|References|Note):\s*$")


def plain(text: str) -> str:
    """Escape what reStructuredText would read as markup."""
    return STAR.sub(r"\*", TRAILING_UNDERSCORE.sub(r"\_", text))


def inline(paragraph: str) -> str:
    """Convert the code and the formulas of one paragraph."""
    out, last = [], 0
    for match in SPAN.finditer(paragraph):
        out.append(plain(paragraph[last : match.start()]))
        last = match.end()
        if match["done"]:
            out.append(match["done"])
            continue
        body = match["code_text"] or match["math_text"]
        body = " ".join(body.split())
        # Text that touches the mark needs an empty separator.
        before = r"\ " if paragraph[: match.start()][-1:].isalnum() else ""
        after = r"\ " if paragraph[last : last + 1].isalnum() else ""
        marked = f"``{body}``" if match["code"] else f":math:`{body}`"
        out.append(f"{before}{marked}{after}")
    out.append(plain(paragraph[last:]))
    return "".join(out)


def display(match: re.Match[str]) -> str:
    """A formula on lines of its own."""
    indent, body, _ = match.groups()
    lines = [f"{indent}   {line.strip()}" for line in body.splitlines() if line.strip()]
    return "\n".join(["", f"{indent}.. math::", "", *lines, ""])


def convert(text: str) -> str:
    """Turn a docstring's marks into reStructuredText's; examples are left alone."""
    text = DISPLAY.sub(display, text)
    parts = re.split(r"(\n[ \t]*\n)", text)
    in_math = False
    for index, part in enumerate(parts):
        if index % 2:
            continue
        if part.strip() == ".. math::":
            in_math = True
        elif in_math:
            in_math = False
        elif not any(DOCTEST.match(line) for line in part.splitlines()):
            parts[index] = inline(part)
    return "".join(parts)


def is_of_others(name: str) -> bool:
    """Whether a method's text was inherited from a class of torch or Python, not of the library."""
    owner, _, method = name.rpartition(".")
    classes = getattr(find(owner), "__mro__", ())
    documented = (kind for kind in classes if getattr(vars(kind).get(method), "__doc__", None))
    return not next(documented, object).__module__.startswith("llmlib.")


def before_napoleon(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Convert in place, and keep a constant's `a: b` from being read as a type."""
    if what in ("method", "property") and is_of_others(name):
        lines.clear()
    lines[:] = convert("\n".join(lines)).split("\n")
    if what in ATTRIBUTES and not any(SECTION.match(line) for line in lines):
        KEPT[name] = list(lines)


def after_napoleon(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Put a constant's text back as it was written."""
    if name in KEPT:
        lines[:] = KEPT.pop(name)


ATTRIBUTES = frozenset({"attribute", "data", "property"})
KEPT: dict[str, list[str]] = {}


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", before_napoleon, priority=300)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
