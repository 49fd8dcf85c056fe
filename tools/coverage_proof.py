"""Prove the coverage table: what each filled row names exists, and its tests passed in this run.

Every function yields sentences about what is wrong; none means proved. tests/gates calls them on
the real table, and on small wrong ones to show that each mistake is caught.
"""

import ast
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surveybook.coverage import CHAPTERS, Row, find

from llmlib.experiments.claims import PLACE, claims_by_row

MAX_ROWS_A_TEST = 3
CLAIM = "tests/experiments/test_records.py::test_claim"
"""The one test of all experiments' claims; each of its cases is marked with its claim's row."""

Problems = Iterator[str]


@dataclass(frozen=True)
class CoveringTest:
    """A test function and the rows that its marks name."""

    name: str  # tests/scaling/test_flops.py::test_training, without parameters
    rows: tuple[str, ...]


def filled(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that claim something."""
    return [row for row in rows if row.symbols or row.notebooks or row.tests or row.result]


def criteria_digest(rows: Iterable[Row]) -> str:
    """Hash the ids and their criteria, so that a change of what counts as done is deliberate."""
    lines = sorted(
        "\x1f".join((row.id, row.chapter, row.survey, row.technique, row.done_when)) for row in rows
    )
    return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()


def table_problems(rows: Sequence[Row]) -> Problems:
    """Check ids, chapters and the completeness of each row."""
    for name, count in Counter(row.id for row in rows).items():
        if count > 1:
            yield f"{name}: the id stands {count} times"
    for row in rows:
        if not re.fullmatch(r"[a-z]+\.[a-z0-9-]+", row.id):
            yield f"{row.id!r} is no id"
        if row.chapter not in CHAPTERS:
            yield f"{row.id}: no chapter is named {row.chapter!r}"
        if not row.technique.strip() or not row.done_when.strip():
            yield f"{row.id}: the technique or its criterion is missing"
    for row in filled(rows):
        for name in ("symbols", "tests", "result"):
            if not getattr(row, name):
                yield f"{row.id}: is filled but has no {name}"


def symbol_problems(rows: Sequence[Row]) -> Problems:
    """Check that each filled row's objects import from the library."""
    for row in filled(rows):
        for symbol in row.symbols:
            if not symbol.startswith("llmlib."):
                yield f"{row.id}: {symbol} is not an object of llmlib"
                continue
            try:
                find(symbol)
            except ValueError as error:
                yield f"{row.id}: {error}"


def slug(heading: str) -> str:
    """Return the anchor of a heading, as the book's builder makes it."""
    plain = re.sub(r"[^\w\s-]", "", heading.strip().lower())
    return re.sub(r"[\s_]+", "-", plain).strip("-")


def anchors(path: Path) -> set[str]:
    """Return the targets of a notebook or Markdown page: labels, headings and figures."""
    if path.suffix == ".ipynb":
        cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    else:
        cells = [{"cell_type": "markdown", "source": path.read_text(encoding="utf-8")}]
    found: set[str] = set()
    for cell in cells:
        text = "".join(cell["source"])
        figure = cell.get("metadata", {}).get("mystnb", {}).get("figure", {})
        found |= {figure["name"]} if "name" in figure else set()
        if cell["cell_type"] != "markdown":
            continue
        found |= set(re.findall(r"^\(([\w:.-]+)\)=", text, re.MULTILINE))
        found |= set(re.findall(r"^:(?:label|name): *(\S+)", text, re.MULTILINE))
        found |= {slug(title) for title in re.findall(r"^#{1,6} +(.+)$", text, re.MULTILINE)}
    return found


def notebook_problems(rows: Sequence[Row], root: Path) -> Problems:
    """Check that each filled row's notebooks and anchors exist."""
    for row in filled(rows):
        for place in row.notebooks:
            name, _, anchor = place.partition("#")
            path = root / name
            if not name.startswith("chapters/") or not path.is_file():
                yield f"{row.id}: there is no notebook {name}"
            elif not anchor:
                yield f"{row.id}: {name} is named without an anchor (`{name}#anchor`)"
            elif anchor not in anchors(path):
                yield f"{row.id}: {name} has no anchor {anchor}"


def marked_rows(decorators: list[ast.expr]) -> list[str]:
    """Return the arguments of `@pytest.mark.covers(...)`."""
    found: list[str] = []
    for node in decorators:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.covers":
            found += [ast.literal_eval(argument) for argument in node.args]
    return found


def covering_tests(root: Path) -> list[CoveringTest]:
    """Read every test function of the suite with the rows that it and its class name."""
    found = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        file = path.relative_to(root).as_posix()
        module = ast.parse(path.read_text(encoding="utf-8"))
        groups: list[tuple[str, list[str], list[ast.stmt]]] = [(file, [], module.body)]
        for node in module.body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
                groups.append((f"{file}::{node.name}", marked_rows(node.decorator_list), node.body))
        for prefix, inherited, body in groups:
            for node in body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                    name = f"{prefix}::{node.name}"
                    rows = dict.fromkeys(inherited + marked_rows(node.decorator_list))
                    if name == CLAIM:
                        rows |= dict.fromkeys(claims_by_row())
                    found.append(CoveringTest(name, tuple(rows)))
    return found


def mark_problems(rows: Sequence[Row], tests: list[CoveringTest]) -> Problems:
    """Check that named tests exist and carry the mark, and that marks name existing rows."""
    known = {row.id for row in rows}
    by_name = {test.name: test for test in tests}
    for test in tests:
        if len(test.rows) > MAX_ROWS_A_TEST and test.name != CLAIM:
            yield f"{test.name}: covers {len(test.rows)} rows, at most {MAX_ROWS_A_TEST}"
        for name in test.rows:
            if name not in known:
                yield f"{test.name}: covers {name}, which is no row"
    for row in filled(rows):
        for name in row.tests:
            if name not in by_name:
                yield f"{row.id}: there is no test {name}"
            elif row.id not in by_name[name].rows:
                yield f'{row.id}: {name} does not carry @pytest.mark.covers("{row.id}")'


def claim_problems(rows: Sequence[Row], claims: dict[str, dict[str, list[str]]]) -> Problems:
    """Check that rows and experiments name each other: `{experiment}` stands in the row's result.

    So what a row says of an experiment is what the experiment claims, word for word.
    """
    for row in rows:
        named = set(PLACE.findall(row.result))
        claimed = set(claims.get(row.id, {}))
        for name in sorted(named - claimed):
            yield f"{row.id}: {{{name}}} claims nothing for this row"
        for name in sorted(claimed - named):
            yield f"{row.id}: the result does not take in the claims of {{{name}}}"
        if claimed and CLAIM not in row.tests:
            yield f"{row.id}: the experiments' claims are proved by {CLAIM}"
    for name in sorted(claims.keys() - {row.id for row in rows}):
        yield f"{name}: an experiment claims something for it, and it is no row"


def results_problems(results: dict[str, Any], run: str, tree: str) -> Problems:
    """Refuse the results of another run, or of another state of the sources."""
    if not run or results.get("run") != run:
        yield "the test results are of another run: run `make test`"
    if results.get("tree") != tree:
        yield "llmlib or tests changed since the tests ran: run `make test` again"


def outcome_problems(rows: Sequence[Row], results: dict[str, Any]) -> Problems:
    """Check that each filled row's tests, with all their parameters, passed in this run."""
    tests: dict[str, dict[str, Any]] = results["tests"]
    for row in filled(rows):
        for name in row.tests:
            cases = {
                case: entry
                for case, entry in tests.items()
                if case == name or case.startswith(f"{name}[")
                if name != CLAIM or row.id in entry["covers"]
            }
            if not cases:
                yield f"{row.id}: {name} did not run"
            for case, entry in cases.items():
                if entry["outcome"] != "passed":
                    yield f"{row.id}: {case} {entry['outcome']}"
                if row.id not in entry["covers"]:
                    yield f"{row.id}: {case} ran without the mark for this row"
