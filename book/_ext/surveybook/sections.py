"""A chapter's sections: links to the written ones, a quiet note beside the planned ones."""

from collections.abc import Sequence

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from surveybook.coverage import link, load, table_path


class Sections(SphinxDirective):
    """The plan of a chapter.

    ```{sections} 04_architecture
    01_attention | Attention | what it computes, what it costs, what heads look at
    ```
    Each line is `file | title | what it is about`; a file that exists becomes a link by itself,
    and one that is not in the plan is added at its place.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Returns: an ordered list of cards."""
        folder = f"chapters/{self.arguments[0]}"
        plan = [tuple(map(str.strip, line.split("|"))) for line in self.content if line.strip()]
        if any(len(entry) != 3 for entry in plan):
            raise self.error("each line of a chapter's plan is `file | title | what it is about`")
        written = {
            name.removeprefix(f"{folder}/")
            for name in self.env.found_docs
            if name.startswith(f"{folder}/") and not name.endswith("/index")
        }
        unplanned = [(name, "", "") for name in written - {entry[0] for entry in plan}]
        listing = nodes.enumerated_list("", classes=["sections"])
        for name, title, about in sorted(plan + unplanned):
            entry = self._written(f"{folder}/{name}", title) if name in written else None
            item = nodes.list_item("", classes=["written" if entry else "planned"])
            item += entry or nodes.paragraph(
                "", "", nodes.strong(title, title), nodes.Text(" "), badge("planned")
            )
            if about:
                item += nodes.paragraph(about, about, classes=["about"])
            listing += item
        return [listing]

    def _written(self, docname: str, title: str) -> nodes.paragraph:
        label = title or self.env.titles[docname].astext() if docname in self.env.titles else title
        uri = self.env.app.builder.get_relative_uri(self.env.docname, docname)
        return nodes.paragraph("", "", link(uri, label or docname.rpartition("/")[2]))


class ChapterProgress(SphinxDirective):
    """One line: how many of a chapter's techniques are done, built and planned."""

    required_arguments = 1
    option_spec = {"class": directives.class_option}

    def run(self) -> list[nodes.Node]:
        """Returns: a paragraph with a link to the chapter's rows."""
        path = table_path(self.env.app)
        self.env.note_dependency(str(path))
        chapter = self.arguments[0]
        rows = [row for row in load(path) if row.chapter == chapter]
        if not rows:
            raise self.error(f"book/coverage.csv has no chapter {chapter}")
        done = sum(row.status != "planned" for row in rows)
        uri = self.env.app.builder.get_relative_uri(self.env.docname, "book/coverage")
        text = f"{done} of {len(rows)} techniques built and proved"
        paragraph = nodes.paragraph(classes=["chapter-progress"])
        width = f"width:{100 * done / len(rows):.0f}%"
        meter = f'<span class="meter" aria-hidden="true"><span style="{width}"></span></span>'
        paragraph += nodes.raw("", meter, format="html")
        paragraph += link(f"{uri}#{nodes.make_id(chapter)}", text)
        return [paragraph]


def badge(status: str) -> nodes.inline:
    """A status as a small label."""
    return nodes.inline(status, status, classes=["status", f"status-{status}"])


def outdated(
    app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]
) -> Sequence[str]:
    """Chapter pages follow the files beside them."""
    if not added and not removed:
        return []
    return [
        name for name in env.found_docs if name.startswith("chapters/") and name.endswith("/index")
    ]


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.add_directive("sections", Sections)
    app.add_directive("chapter-progress", ChapterProgress)
    app.connect("env-get-outdated", outdated)
