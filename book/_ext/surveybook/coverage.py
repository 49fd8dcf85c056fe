"""The rows of `book/coverage.csv`, and the places in the book that a row names."""

import csv
import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx

REFERENCE = "book/api/"
"""The folder of the library's reference, whose pages are named after subpackages."""

COLUMNS = ["id", "chapter", "survey", "technique", "done_when"]
COLUMNS += ["symbol", "notebook", "test", "result"]
CHAPTERS = ("introduction", "scaling_laws", "data", "architecture", "training")
CHAPTERS += ("adaptation", "utilization", "evaluation", "capstone")


@dataclass(frozen=True)
class Row:
    """One technique: what the survey names, when it counts as done, and where it was built."""

    id: str
    chapter: str
    survey: str
    technique: str
    done_when: str
    symbols: tuple[str, ...]
    notebooks: tuple[str, ...]
    tests: tuple[str, ...]
    result: str
    """As it is written: `{NAME}` stands for the claims of an experiment."""

    @property
    def status(self) -> str:
        """`done` (built, proved, taught), `built` (its section is to come) or `planned`."""
        if not (self.symbols and self.tests):
            return "planned"
        return "done" if self.notebooks else "built"


def table_path(app: Sphinx) -> Path:
    """Where the coverage table lies."""
    return Path(app.srcdir) / "book" / "coverage.csv"


def items(cell: str) -> tuple[str, ...]:
    """The parts of a cell that `;` separates."""
    return tuple(part.strip() for part in cell.split(";") if part.strip())


@cache
def load(path: Path) -> tuple[Row, ...]:
    """Read the coverage table, once for all pages.

    Raises:
        ValueError: When the columns are not the nine that the book knows.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path.name} must have the columns {','.join(COLUMNS)}")
        return tuple(
            Row(
                symbols=items(row.pop("symbol")),
                notebooks=items(row.pop("notebook")),
                tests=items(row.pop("test")),
                **row,
            )
            for row in reader
        )


@cache
def sections(path: Path) -> dict[str, dict[str, None]]:
    """The documents (without suffix) that teach each library object, in the table's order."""
    found: dict[str, dict[str, None]] = {}
    for row in load(path):
        documents = dict.fromkeys(document_of(place) for place in row.notebooks)
        for name in map(canonical, row.symbols):
            found.setdefault(name, {}).update(documents)
    return found


def document_of(place: str) -> str:
    """`chapters/x/y.ipynb#anchor` stands in the document `chapters/x/y`."""
    return place.partition("#")[0].rpartition(".")[0]


def find(name: str) -> object:
    """The object that a dotted name stands for: a module, or an attribute of one.

    Raises:
        ValueError: When nothing has that name.
    """
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if error.name and not name.startswith(error.name):
                raise
            continue
        try:
            for part in parts[cut:]:
                found = getattr(found, part)
        except AttributeError:
            break
        return found
    raise ValueError(f"{name} names no object of the library")


def canonical(name: str) -> str:
    """The name under which an object is documented: the module that defines it."""
    found = find(name)
    module = getattr(found, "__module__", None)
    qualified = getattr(found, "__qualname__", None)
    return f"{module}.{qualified}" if module and qualified else name


def symbol_uri(app: Sphinx, docname: str, symbol: str) -> str:
    """Relative address of an object's entry in the library reference."""
    name = canonical(symbol)
    parts = name.split(".")
    pages = (f"{REFERENCE}{'.'.join(parts[:depth])}" for depth in (3, 2))
    page = next(page for page in pages if page in app.env.found_docs)
    anchor = f"module-{name}" if isinstance(find(name), ModuleType) else name
    return f"{app.builder.get_relative_uri(docname, page)}#{anchor}"


def section_uri(app: Sphinx, docname: str, place: str) -> str | None:
    """Relative address of `chapters/x/y.ipynb#anchor`, or None while that page is not built."""
    page, anchor = document_of(place), place.partition("#")[2]
    if page not in app.env.found_docs:
        return None
    uri = app.builder.get_relative_uri(docname, page)
    return f"{uri}#{nodes.make_id(anchor)}" if anchor else uri


def link(uri: str, text: str, *, code: bool = False) -> nodes.reference:
    """An internal link."""
    label = nodes.literal(text, text) if code else nodes.Text(text)
    return nodes.reference("", "", label, internal=True, refuri=uri)
