"""The rows of `book/coverage.csv`, and the places in the book that a row names."""

import csv
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from docutils import nodes
from sphinx.application import Sphinx

from llmlib.experiments.claims import expanded

COLUMNS = [
    "id",
    "chapter",
    "survey",
    "technique",
    "done_when",
    "symbol",
    "notebook",
    "test",
    "result",
]


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

    @property
    def status(self) -> str:
        """`done` (built, proved, taught), `built` (its section is to come) or `planned`."""
        if not (self.symbols and self.tests):
            return "planned"
        return "done" if self.notebooks else "built"


def _items(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def table_path(app: Sphinx) -> Path:
    """Where the coverage table lies."""
    return Path(app.srcdir) / "book" / "coverage.csv"


def load(path: Path) -> list[Row]:
    """Read the coverage table.

    Raises:
        ValueError: When the columns are not the nine that the book knows.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ValueError(f"{path.name} must have the columns {','.join(COLUMNS)}")
        return [
            Row(
                id=row["id"],
                chapter=row["chapter"],
                survey=row["survey"],
                technique=row["technique"],
                done_when=row["done_when"],
                symbols=_items(row["symbol"]),
                notebooks=_items(row["notebook"]),
                tests=_items(row["test"]),
                result=expanded(row["result"], row["id"]),
            )
            for row in reader
        ]


def sections_of(symbol: str, rows: list[Row]) -> Iterator[str]:
    """The documents (without suffix) that teach a library object, in the table's order."""
    seen: set[str] = set()
    for row in rows:
        if symbol in {canonical(name) for name in row.symbols}:
            for place in row.notebooks:
                document = place.partition("#")[0].removesuffix(".ipynb").removesuffix(".md")
                if document not in seen:
                    seen.add(document)
                    yield document


def find(name: str) -> object:
    """The object that a dotted name stands for: a module, or an attribute of one.

    Raises:
        ValueError: When nothing has that name.
    """
    parts = name.split(".")
    # A package may offer a function under the name of the module that holds it: that one is meant.
    offered = getattr(sys.modules.get(".".join(parts[:-1])), parts[-1], None)
    if offered is not None and not isinstance(offered, ModuleType):
        return offered
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
    page = f"book/api/{'.'.join(name.split('.')[:2])}"
    anchor = f"module-{name}" if isinstance(find(name), ModuleType) else name
    return f"{app.builder.get_relative_uri(docname, page)}#{anchor}"


def section_uri(app: Sphinx, docname: str, place: str) -> str | None:
    """Relative address of `chapters/x/y.ipynb#anchor`, or None while that page is not built."""
    path, _, anchor = place.partition("#")
    page = path.rpartition(".")[0]
    if page not in app.env.found_docs:
        return None
    uri = app.builder.get_relative_uri(docname, page)
    return f"{uri}#{nodes.make_id(anchor)}" if anchor else uri


def link(uri: str, text: str, *, code: bool = False) -> nodes.reference:
    """An internal link."""
    label = nodes.literal(text, text) if code else nodes.Text(text)
    return nodes.reference("", "", label, internal=True, refuri=uri)
