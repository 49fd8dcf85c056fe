"""The rules for a committed notebook, each a small function that yields what is wrong.

A rule takes a `Notebook` and yields sentences. `RULES` lists them all; tests/notebooks shows each
one a notebook that it accepts and one that it refuses.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from project import Address
from setup_cell import setup_cell

Cell = dict[str, Any]
Problems = Iterator[str]

MAX_NOTEBOOK_BYTES = 600_000
MAX_OUTPUT_BYTES = 200_000
MAX_LINES, MAX_CLASS_LINES = 15, 30
MAX_IGNORED_SHARE = 0.5
VOLATILE = ("execution", "collapsed", "ExecuteTime", "colab", "executionInfo", "outputId")
FIGURES = ("image/png", "image/svg+xml", "image/jpeg")

MACHINE_DETAIL = re.compile(
    r"/(?:home|Users|root|tmp|content|work|var|opt|usr)/[\w.]|[A-Z]:\\+Users|ipykernel_\d+"
    r"|\b0x[0-9a-f]{8,}\b"
)
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
MASKED_HOSTS = ("example.com", "example.org", "example.net")
DOWNLOADS = re.compile(
    r"urllib\.request|urlretrieve|requests\.(?:get|post)|httpx\.|^\s*[!%]\s*(?:pip|wget|curl|git|conda)"
    r"|\bwget\b|\bcurl\b|subprocess\.\w+\(\[?[^)]*\bpip\b",
    re.MULTILINE,
)
ABSOLUTE = re.compile(r"""["'](?:/(?:home|Users|root|tmp|content|work|mnt)/|[A-Z]:\\)""")
TIME = re.compile(r"\b(?:about|under|less than)?\s*\d+(?:\.\d+)?\s*(?:s|seconds?|min(?:utes?)?)\b")
SECTION = re.compile(r"\bsurvey\b.{0,40}\b\d+(?:\.\d+)*\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Notebook:
    """A parsed notebook and what its rules need to know."""

    content: dict[str, Any]
    size: int
    address: Address

    @property
    def cells(self) -> list[Cell]:
        return self.content.get("cells", [])

    def code(self) -> Iterator[tuple[int, Cell]]:
        """Yield the code cells with their place, counted from 1."""
        for place, cell in enumerate(self.cells, 1):
            if cell["cell_type"] == "code":
                yield place, cell


def text(value: Any) -> str:
    """Join what the format stores as a list of lines."""
    return "".join(value) if isinstance(value, list) else str(value)


def source(cell: Cell) -> str:
    return text(cell.get("source", ""))


def tags(cell: Cell) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def printed(output: Cell) -> str:
    """Return the text that a reader sees in an output."""
    data = output.get("data", {})
    shown = [text(value) for kind, value in data.items() if kind.startswith("text/")]
    return text(output.get("text", "")) + "".join(shown) + text(output.get("traceback", ""))


def is_setup(notebook: Notebook, place: int) -> bool:
    return place == 2


def size_limit(notebook: Notebook) -> Problems:
    if notebook.size > MAX_NOTEBOOK_BYTES:
        yield f"{notebook.size:,} bytes, at most {MAX_NOTEBOOK_BYTES:,}"
    for place, cell in notebook.code():
        for output in cell["outputs"]:
            size = len(json.dumps(output, ensure_ascii=False).encode())
            if size > MAX_OUTPUT_BYTES:
                yield f"cell {place}: an output of {size:,} bytes, at most {MAX_OUTPUT_BYTES:,}"


def kernel(notebook: Notebook) -> Problems:
    if notebook.content.get("metadata", {}).get("kernelspec", {}).get("name") != "python3":
        yield "the kernelspec must be python3"


def unique_ids(notebook: Notebook) -> Problems:
    seen: set[str] = set()
    for place, cell in enumerate(notebook.cells, 1):
        name = cell.get("id")
        if not name or name in seen:
            yield f"cell {place}: its id is missing or repeated"
        seen.add(name or "")


def no_empty_cells(notebook: Notebook) -> Problems:
    for place, cell in enumerate(notebook.cells, 1):
        if not source(cell).strip():
            yield f"cell {place}: empty"


def no_attachments(notebook: Notebook) -> Problems:
    for place, cell in enumerate(notebook.cells, 1):
        if cell.get("attachments"):
            yield f"cell {place}: an attachment (put the picture in a file)"


def executed_in_order(notebook: Notebook) -> Problems:
    for number, (place, cell) in enumerate(notebook.code(), 1):
        if cell["execution_count"] != number:
            yield (
                f"cell {place}: execution count {cell['execution_count']}, expected {number} "
                "(run `make notebooks`)"
            )


def no_errors(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        for output in cell["outputs"]:
            if output["output_type"] == "error" and "raises-exception" not in tags(cell):
                yield f"cell {place}: stored error {output.get('ename')}"
            if output["output_type"] == "stream" and output["name"] == "stderr":
                yield f"cell {place}: output on stderr"


def no_machine_details(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        for output in cell["outputs"]:
            if found := MACHINE_DETAIL.search(printed(output)):
                yield f"cell {place}: the output shows a detail of the machine, {found.group()!r}"


def no_email_addresses(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        for output in cell["outputs"]:
            for found in EMAIL.finditer(printed(output)):
                if not found.group().endswith(MASKED_HOSTS):
                    yield f"cell {place}: the output shows an e-mail address; mask it"


def no_trailing_semicolon(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        if source(cell).rstrip().endswith(";"):
            yield f"cell {place}: ends in ';', which nbval shows all the same: write `_ = ...`"


def no_volatile_metadata(notebook: Notebook) -> Problems:
    for place, cell in enumerate(notebook.cells, 1):
        for name in VOLATILE:
            if name in cell.get("metadata", {}):
                yield f"cell {place}: volatile metadata {name!r} (run `make notebooks`)"
    for name in ("widgets", "colab", "accelerator"):
        if name in notebook.content.get("metadata", {}):
            yield f"volatile notebook metadata {name!r} (run `make notebooks`)"


def short_cells(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        lines = source(cell).strip().count("\n") + 1
        has_class = re.search(r"^class ", source(cell), re.MULTILINE)
        limit = MAX_CLASS_LINES if has_class else MAX_LINES
        if lines > limit and not is_setup(notebook, place):
            yield f"cell {place}: {lines} lines, at most {limit}"


def markdown_first(notebook: Notebook) -> Problems:
    for place, _ in notebook.code():
        before = notebook.cells[place - 2] if place > 1 else None
        if is_setup(notebook, place) or is_setup(notebook, place - 1):
            continue  # the set-up and the imports after it need no prose
        if before is None or before["cell_type"] != "markdown":
            yield f"cell {place}: no Markdown before it says why"


def opening(notebook: Notebook) -> Problems:
    first = notebook.cells[0] if notebook.cells else {"cell_type": "none", "source": ""}
    words = source(first)
    if first["cell_type"] != "markdown" or not re.search(r"^# \S", words, re.MULTILINE):
        yield "the first cell must be Markdown with the title (`# ...`)"
        return
    if not TIME.search(words):
        yield "the first cell does not say how long the notebook takes"
    if not SECTION.search(words):
        yield "the first cell does not name its section of the survey (`Survey section 4.2`)"


def generated_setup(notebook: Notebook) -> Problems:
    second = notebook.cells[1] if len(notebook.cells) > 1 else {"cell_type": "none"}
    expected = setup_cell(notebook.address)
    if second["cell_type"] != "code" or source(second) != expected:
        yield "the second cell is not the set-up cell (run `python tools/check_notebooks.py --fix`)"


def no_path_tricks(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        if "sys.path" in source(cell):
            yield f"cell {place}: touches sys.path; the library is installed"
        if found := ABSOLUTE.search(source(cell)):
            yield f"cell {place}: an absolute path, {found.group()!r}"


def no_hidden_downloads(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        if not is_setup(notebook, place) and (found := DOWNLOADS.search(source(cell))):
            yield f"cell {place}: fetches by itself ({found.group().strip()!r}); use llmlib.data"


def few_ignored_outputs(notebook: Notebook) -> Problems:
    cells = [cell for _, cell in notebook.code()]
    ignored = sum("nbval-ignore-output" in tags(cell) for cell in cells)
    if ignored > MAX_IGNORED_SHARE * len(cells):
        yield f"{ignored} of {len(cells)} code cells are tagged nbval-ignore-output, at most half"
    for place, cell in notebook.code():
        if re.search(r"#\s*NBVAL|#\s*PYTEST_VALIDATE", source(cell)):
            yield f"cell {place}: opts out by a comment; use the tag nbval-ignore-output"
        if {"nbval-skip", "skip-execution"} & set(tags(cell)):
            yield f"cell {place}: is never run (tag nbval-skip or skip-execution)"


def figures_have_alt_text(notebook: Notebook) -> Problems:
    for place, cell in notebook.code():
        shown = {kind for output in cell["outputs"] for kind in output.get("data", {})}
        image = cell["metadata"].get("mystnb", {}).get("image", {})
        if shown & set(FIGURES) and not str(image.get("alt", "")).strip():
            yield f"cell {place}: a figure without alt text (metadata mystnb.image.alt)"
    for place, cell in enumerate(notebook.cells, 1):
        if cell["cell_type"] == "markdown" and re.search(r"!\[\s*\]\(", source(cell)):
            yield f"cell {place}: a picture without alt text (`![alt](file)`)"


def parses(notebook: Notebook) -> Problems:
    """Magics and shell lines are not Python: a reader without IPython must be able to copy."""
    for place, cell in notebook.code():
        try:
            ast.parse(source(cell))
        except SyntaxError as error:
            yield f"cell {place}: not plain Python ({error.msg}, line {error.lineno})"


RULES: tuple[Callable[[Notebook], Problems], ...] = (
    size_limit,
    kernel,
    unique_ids,
    no_empty_cells,
    no_attachments,
    executed_in_order,
    no_errors,
    no_machine_details,
    no_email_addresses,
    no_trailing_semicolon,
    no_volatile_metadata,
    short_cells,
    markdown_first,
    opening,
    generated_setup,
    no_path_tricks,
    no_hidden_downloads,
    few_ignored_outputs,
    figures_have_alt_text,
    parses,
)


def problems(notebook: Notebook) -> list[str]:
    """Apply every rule."""
    return [sentence for rule in RULES for sentence in rule(notebook)]
