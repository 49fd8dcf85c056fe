"""Links both ways between a section and the library objects that it teaches."""

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

from surveybook.api import summary
from surveybook.coverage import (
    CHAPTERS,
    canonical,
    document_of,
    find,
    link,
    load,
    sections,
    symbol_uri,
    table_path,
)


def taught_in(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """End an object's entry with the sections that teach it."""
    taught = sections(table_path(app)).get(name, ())
    pages = [page for page in taught if page in app.env.found_docs]
    if pages:
        places = ", ".join(f":doc:`/{page}`" for page in pages)
        lines += ["", ".. container:: taught-in", "", f"   Taught in {places}", ""]


def in_the_library(app: Sphinx, doctree: nodes.document) -> None:
    """End a section's page with the objects that it teaches."""
    docname = app.env.docname
    if not docname.startswith("chapters/") or docname.endswith("/index"):
        return
    app.env.note_dependency(str(table_path(app)))
    names: list[str] = []
    for row in load(table_path(app)):
        if docname in map(document_of, row.notebooks):
            names += [name for name in map(canonical, row.symbols) if name not in names]
    if not names:
        return
    section = nodes.section("", nodes.title("", "In the library"), ids=["in-the-library"])
    items = nodes.bullet_list("", classes=["in-the-library"])
    for name in names:
        entry = nodes.paragraph("", "", link(symbol_uri(app, docname, name), name, code=True))
        entry += nodes.Text(f" {summary(find(name))}")
        items += nodes.list_item("", entry)
    section += items
    top = next(iter(doctree.findall(nodes.section)))
    top += section


def chapter_role(name, rawtext, text, lineno, inliner, options=None, content=None):
    """A short link to a chapter: {chapter}`data` or {chapter}`data,training`."""
    env = inliner.document.settings.env
    found: list[nodes.Node] = []
    for word in text.split(","):
        docname = PAGES[word.strip()]
        node = pending_xref(
            "", refdomain="std", reftype="doc", refexplicit=True, reftarget=f"/{docname}",
            refdoc=env.docname, refwarn=True, classes=["chapter-link"],
        )  # fmt: skip
        label = word.strip().replace("_", " ")
        node += nodes.inline(label, label, classes=["chapter-link"])
        found += [nodes.Text(" "), node]
    return found[1:], []


def number_role(name, rawtext, text, lineno, inliner, options=None, content=None):
    """A chapter's number on its card."""
    return [nodes.inline(text, text, classes=["number"])], []


PAGES = {name: f"chapters/{number:02d}_{name}/index" for number, name in enumerate(CHAPTERS, 1)}


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    # After napoleon (500): what is added here is already reStructuredText.
    app.connect("autodoc-process-docstring", taught_in, priority=900)
    # Before the table of contents is collected (500), so that the new section is in it.
    app.connect("doctree-read", in_the_library, priority=400)
    app.add_role("chapter", chapter_role)
    app.add_role("number", number_role)
