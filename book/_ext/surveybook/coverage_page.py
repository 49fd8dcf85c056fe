"""The coverage page: every technique, whether it is done, and where to find it."""

import csv
from collections import Counter
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from llmlib.experiments.claims import expanded
from surveybook.coverage import Row, link, load, section_uri, symbol_uri, table_path
from surveybook.sections import badge
from surveybook.sources import test_uri


class _CoverageDirective(SphinxDirective):
    def rows(self) -> tuple[Row, ...]:
        path = table_path(self.env.app)
        self.env.note_dependency(str(path))
        return load(path)


class Coverage(_CoverageDirective):
    """The rows of one chapter as a table."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns: a table in a box that scrolls."""
        rows = [row for row in self.rows() if row.chapter == self.arguments[0]]
        if not rows:
            raise self.error(f"book/coverage.csv has no chapter {self.arguments[0]}")
        return [table(("Technique and when it counts as done", "Survey", "Where"), (56, 10, 34),
                      [self._row(row) for row in rows])]  # fmt: skip

    def _row(self, row: Row) -> nodes.row:
        name = nodes.paragraph("", "", nodes.strong(row.technique, row.technique))
        criterion = nodes.paragraph(row.done_when, row.done_when, classes=["criterion"])
        identity = nodes.paragraph("", "", nodes.literal(row.id, row.id), classes=["row-id"])
        what = [name, criterion, identity]
        if row.result:
            result = expanded(row.result, row.id)
            what.insert(2, nodes.paragraph(result, result, classes=["result"]))
        beyond = row.survey == "beyond"
        survey = badge("beyond") if beyond else nodes.Text(row.survey)
        where = [nodes.paragraph("", "", badge(row.status)), *self._links(row)]
        target = nodes.row("", entry(*what), entry(nodes.paragraph("", "", survey)), entry(*where))
        target["ids"] = [nodes.make_id(row.id)]
        target["classes"] = ["technique", f"technique-{row.status}"] + ["technique-beyond"] * beyond
        return target

    def _links(self, row: Row) -> list[nodes.paragraph]:
        app, docname = self.env.app, self.env.docname
        found: list[nodes.paragraph] = []
        for place in row.notebooks:
            uri = section_uri(app, docname, place)
            label = place.rpartition("/")[2].replace(".ipynb", "")
            found.append(_labelled("section", link(uri, label) if uri else nodes.Text(label)))
        for symbol in row.symbols:
            label = symbol.rpartition(".")[2]
            found.append(
                _labelled("library", link(symbol_uri(app, docname, symbol), label, code=True))
            )
        for test in row.tests:
            label = test.rpartition("::")[2]
            found.append(_labelled("test", link(test_uri(app, docname, test), label, code=True)))
        return found


class CoverageCounts(_CoverageDirective):
    """The totals, as four tiles and a bar."""

    def run(self) -> list[nodes.Node]:
        """Returns: raw HTML, since the tiles have no meaning outside the page."""
        rows = self.rows()
        count = Counter(row.status for row in rows)
        beyond = sum(row.survey == "beyond" for row in rows) + len(_beyond(self.env.app))
        tiles = [
            ("all", len(rows), "techniques"),
            ("done", count["done"], "built, proved and taught"),
            ("built", count["built"], "built and proved, section to come"),
            ("planned", count["planned"], "planned"),
            ("beyond", beyond, "beyond the survey"),
        ]
        cells = "".join(
            f'<div class="tile tile-{key}"><b>{number}</b><span>{label}</span></div>'
            for key, number, label in tiles
        )
        bar = "".join(
            f'<span class="bar-{key}" style="flex-grow:{count[key]}"></span>'
            for key in ("done", "built", "planned")
            if count[key]
        )
        html = f'<div class="tiles">{cells}</div>'
        html += f'<div class="coverage-bar" aria-hidden="true">{bar}</div>'
        return [nodes.raw("", html, format="html")]


class BeyondTheSurvey(_CoverageDirective):
    """Methods that a reader expects beside the survey's and that no edition names."""

    def run(self) -> list[nodes.Node]:
        """Returns: a table of methods and the rows that carry them."""
        by_id = {row.id: row for row in self.rows()}
        lines = [(row.technique, row.id) for row in by_id.values() if row.survey == "beyond"]
        lines += _beyond(self.env.app)
        for method, identity in lines:
            if identity not in by_id:
                raise self.error(f"{method} is said to be in {identity}, which is no row")
        body: list[nodes.row] = []
        for method, identity in lines:
            uri = f"#{nodes.make_id(identity)}"
            cells = (
                nodes.Text(method),
                link(uri, identity, code=True),
                badge(by_id[identity].status),
            )
            body.append(nodes.row("", *(entry(nodes.paragraph("", "", cell)) for cell in cells)))
        return [table(("Method", "Row", "State"), (50, 30, 20), body)]


def _beyond(app: Sphinx) -> list[tuple[str, str]]:
    path = Path(app.srcdir) / "book" / "beyond.csv"
    app.env.note_dependency(str(path))
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["method"], row["id"]) for row in csv.DictReader(file)]


def _labelled(kind: str, node: nodes.Node) -> nodes.paragraph:
    label = nodes.inline(kind, kind, classes=["kind"])
    return nodes.paragraph("", "", label, nodes.Text(" "), node, classes=["where"])


def entry(*children: nodes.Node) -> nodes.entry:
    """A cell."""
    return nodes.entry("", *children)


def table(titles: tuple[str, ...], widths: tuple[int, ...], body: list[nodes.row]) -> nodes.table:
    """A table with a heading row."""
    head = nodes.row("", *(entry(nodes.paragraph(title, title)) for title in titles))
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in widths), cols=len(widths))
    group += nodes.thead("", head)
    group += nodes.tbody("", *body)
    return nodes.table("", group, classes=["coverage", "colwidths-given"])


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.add_directive("coverage", Coverage)
    app.add_directive("coverage-counts", CoverageCounts)
    app.add_directive("beyond-the-survey", BeyondTheSurvey)
