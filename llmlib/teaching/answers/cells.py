"""The Python of a notebook's cell: what IPython would run, without its commands."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Cell magics whose text is not run in the notebook's own namespace.
_ELSEWHERE = frozenset((
    "bash", "cmd", "file", "html", "javascript", "js", "latex", "markdown", "perl", "pypy",
    "python", "python2", "python3", "ruby", "script", "sh", "svg", "sx", "system", "timeit",
    "writefile",
))  # fmt: skip
_INDENTED = re.compile(r"(?:[ \t]*\r?\n)*([ \t]+)\S")
_CELL_MAGIC = re.compile(r"(\s*)%%(\w+)[^\n]*")
_STRING = r"""(?:"(?!"")(?:\\.|[^"\\\n])*+"|'(?!'')(?:\\.|[^'\\\n])*+')"""
_BRACKETS = "(?!)"
for _ in range(3):  # as deep as an index may be
    _BRACKETS = rf"""[(\[{{](?:{_STRING}|{_BRACKETS}|[^"'\#\n()\[\]{{}}])*+[)\]}}]"""
# What is assigned to, such as d["a"], and the sign: = inside quotes or brackets is another.
_ASSIGNED = rf"""(?:{_STRING}|{_BRACKETS}|[^"'=\#\n()\[\]{{}}])++=[ \t]*"""
_COMMAND = re.compile(
    rf"""[ \t]*(?:[%!?/,;]                              # %magic, !shell, ?help, quick calls
    | (?:{_ASSIGNED})?[%\w.*]+(?:\[[^\]\n]*\])?\?{{1,2}}[ \t\r]*(?:\n|$)  # help? x = help?
    | {_ASSIGNED}[%!])                                # files = !ls""",
    re.VERBOSE,
)
_COMMAND_LINES = re.compile(r"(?:[^\n]*\\\r?\n)*[^\n]*\n?")
_TIMED = re.compile(rf"([ \t]*(?:{_ASSIGNED})?)%time[ \t]+(?=\S)")
_TOKEN = re.compile(
    r"""(?:\"{3}(?:\\.|[^\\])*?\"{3} | '{3}(?:\\.|[^\\])*?'{3}
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | \#[^\n]* | \\\r?\n)
    | (?P<end>\n) | (?P<open>[(\[{]) | (?P<close>[)\]}])""",
    re.VERBOSE | re.DOTALL,
)


def python_of(cell: str) -> str:
    r"""Put `pass` for IPython's commands in a cell; every line keeps its number.

    A command stands where a statement could begin: a line inside brackets or a string, or behind a
    backslash, may begin with % like any other. What `%time` times stays, and so does the text of a
    cell magic, unless it is no Python or runs elsewhere, as that of `%%bash`.

    Example:
        >>> python_of("%matplotlib inline\nrest = (7\n  % 3)\nrest?")
        'pass\nrest = (7\n  % 3)\npass'
    """
    if indented := _INDENTED.match(cell):  # IPython takes the first line's indentation from all
        cell = re.sub(f"^{indented[1]}", "", cell, flags=re.MULTILINE)
    if magic := _CELL_MAGIC.match(cell):
        return "" if magic[2] in _ELSEWHERE else magic[1] + python_of(cell[magic.end() :])
    return "".join(_without_command(statement) for statement in _statements(cell))


def _statements(cell: str) -> Iterator[str]:
    """Cut a cell where a statement or a command ends; blank lines and comments count as such."""
    start = 0
    while start < len(cell):
        if _COMMAND.match(cell, start):
            lines = _COMMAND_LINES.match(cell, start)
            stop = lines.end() if lines else len(cell)
        else:
            stop = _end(cell, start)
        yield cell[start:stop]
        start = stop


def _end(cell: str, start: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(cell, start):
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
        elif token["end"] and depth <= 0:
            return token.end()
    return len(cell)


def _without_command(statement: str) -> str:
    if not _COMMAND.match(statement):
        return statement
    if _TIMED.match(statement):
        return _TIMED.sub(r"\1", statement, count=1)
    indent = statement[: len(statement) - len(statement.lstrip(" \t"))]
    return f"{indent}pass" + "\n" * statement.count("\n")
