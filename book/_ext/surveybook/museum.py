"""The page of the museum of bugs: each exhibit with its sources, from `tests/museum`."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from surveybook.coverage import link

FOLDER = Path(__file__).resolve().parents[3] / "tests"


class Room(SphinxDirective):
    """The exhibits of one room, a section each."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Returns: a section for each exhibit."""
        if str(FOLDER) not in sys.path:
            sys.path.insert(0, str(FOLDER))
        from museum import rooms
        from museum.exhibit import Exhibit

        def section(exhibit: Exhibit) -> nodes.section:
            found = nodes.section(ids=[nodes.make_id(exhibit.name)], names=[exhibit.name])
            found += nodes.title("", exhibit.name)
            where = nodes.paragraph("", "Shipped in " if exhibit.links else "Planted by us.")
            for number, (label, address) in enumerate(exhibit.links):
                where += nodes.Text(", " * bool(number))
                where += link(address, label)
            found += [where, nodes.paragraph("", exhibit.fault)]
            for label, part in (("The fault", "faulty"), ("The check that finds it", "check")):
                found += nodes.paragraph("", "", nodes.strong("", label))
                source = exhibit.source(part)
                found += nodes.literal_block(source, source, language="python")
                if part == "faulty":
                    found += nodes.paragraph("", exhibit.looks)
            return found

        shown = dict(rooms())
        if self.arguments[0] not in shown:
            raise self.error(f"tests/museum has no room {self.arguments[0]}")
        for path in sorted((FOLDER / "museum").glob("*.py")):
            self.env.note_dependency(str(path))
        return [section(exhibit) for exhibit in shown[self.arguments[0]]]


def setup(app: Sphinx) -> None:
    """Register with Sphinx."""
    app.add_directive("museum", Room)
