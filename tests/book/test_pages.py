"""The built pages: links lead somewhere, nothing is fetched, nothing of this machine shows."""

import importlib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from docutils.nodes import make_id
from project import ROOT
from surveybook.coverage import REFERENCE, canonical, load

VOID = {"img", "link", "input", "br", "hr", "meta", "source", "wbr", "col", "path", "rect"}


class Page(HTMLParser):
    """What a page points to, the places in it that can be pointed at, and its planned sections."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.all_ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.planned = 0
        self.links_in_planned: list[str] = []
        self._depth: int | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        if "id" in values:
            self.anchors.add(values["id"])
            self.all_ids.append(values["id"])
        if tag == "a" and "name" in values:
            self.anchors.add(values["name"])
        self._note_address(tag, values)
        if tag == "li" and "planned" in values.get("class", "").split():
            self.planned += 1
            self._depth = 0
        elif self._depth is not None and tag not in VOID:
            self._depth += 1

    def _note_address(self, tag: str, values: dict[str, str]) -> None:
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
            if self._depth is not None:
                self.links_in_planned.append(values["href"])
        loaded = values.get("href") if tag == "link" else values.get("src")
        if loaded and values.get("rel") not in ("index", "search", "next", "prev", "canonical"):
            self.loads.append(loaded)

    def handle_endtag(self, tag: str) -> None:
        if self._depth is not None and tag not in VOID:
            self._depth = self._depth - 1 if self._depth else None


@cache
def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def paths(html: Path) -> list[Path]:
    found = sorted(path for path in html.rglob("*.html") if "_static" not in path.parts)
    assert len(found) > 30
    return found


def test_every_internal_link_resolves(html: Path, paths: list[Path]) -> None:
    broken = []
    for path in paths:
        page = read(path)
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme or address in ("", "#"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            where = f"{path.relative_to(html)} -> {address}"
            if not target.is_file():
                broken.append(where)
                continue
            if parts.fragment and target.suffix == ".html":
                broken += [where] * (unquote(parts.fragment) not in read(target).anchors)
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(html: Path, paths: list[Path]) -> None:
    outside = {
        (str(path.relative_to(html)), address)
        for path in paths
        for address in read(path).loads
        if urlsplit(address).netloc or urlsplit(address).scheme not in ("", "data")
    }
    assert outside == set()


def test_style_sheets_load_nothing_from_elsewhere(html: Path) -> None:
    sheets = list((html / "_static").rglob("*.css"))
    assert sheets
    for sheet in sheets:
        text = sheet.read_text(encoding="utf-8", errors="replace")
        for mark in ("url(http", 'url("http', "url('http", "url(//", "@import url(http"):
            assert mark not in text, f"{sheet.relative_to(html)}: {mark}"


def test_no_path_of_this_machine_is_in_the_pages(html: Path, paths: list[Path]) -> None:
    private = [str(ROOT), str(Path.home()) + "/", "/tmp/"]
    for path in [*paths, html / "searchindex.js"]:
        text = path.read_text(encoding="utf-8")
        own = [word for word in private if word in text]
        # A notebook or a docstring may speak of /tmp; the checkout's own place never shows.
        assert [word for word in own if word != "/tmp/"] == [], path.relative_to(html)


def test_every_row_stands_once_on_the_coverage_page(html: Path) -> None:
    ids = read(html / "book" / "coverage.html").all_ids
    for row in load(ROOT / "book" / "coverage.csv"):
        assert ids.count(make_id(row.id)) == 1, row.id


def test_planned_sections_are_shown_and_are_not_links(html: Path) -> None:
    planned = 0
    for path in sorted(html.glob("chapters/*/index.html")):
        page = read(path)
        planned += page.planned
        assert page.links_in_planned == [], path.relative_to(html)
    assert planned > 0


def test_every_written_section_is_linked_from_its_chapter(html: Path) -> None:
    for notebook in sorted((ROOT / "chapters").glob("*/[0-9]*.ipynb")):
        chapter = read(html / "chapters" / notebook.parent.name / "index.html")
        assert f"{notebook.stem}.html" in chapter.links, notebook.name


def test_every_public_object_has_an_entry(html: Path) -> None:
    pages = sorted((html / REFERENCE).glob("llmlib.*.html"))
    anchors = {anchor for page in pages for anchor in read(page).anchors}
    for page in pages:
        package = importlib.import_module(page.stem)
        for name in getattr(package, "__all__", ()):
            obj = getattr(package, name)
            if callable(obj) and getattr(obj, "__module__", "").startswith("llmlib."):
                assert canonical(f"{page.stem}.{name}") in anchors, f"{page.stem}.{name}"


def entry(html: Path, name: str) -> str:
    """The words of an object's entry in the reference: its signature, then its text."""
    (path,) = (p for p in (html / REFERENCE).glob("llmlib.*.html") if name in read(p).anchors)
    text = path.read_text(encoding="utf-8")
    words: list[str] = []
    page = Page()
    page.handle_data = words.append  # pyright: ignore[reportAttributeAccessIssue]
    page.feed(text[text.index(f'id="{name}"') :].partition('<dt class="sig')[0])
    return "".join(words)


def test_shapes_are_readable_in_signatures(html: Path) -> None:
    signature = entry(html, "llmlib.architecture.attention.multihead.attention_weights")
    assert 'queries: Float[Tensor, "*batch T K"]' in signature
    assert "jaxtyping.Float" not in signature


def test_an_override_shows_the_contract_of_its_base_and_not_that_of_torch(html: Path) -> None:
    assert "Bytes set aside" in entry(html, "llmlib.architecture.caches.base.TensorCache.nbytes")
    for page in (html / REFERENCE).glob("llmlib.*.html"):
        text = page.read_text(encoding="utf-8")
        assert "Define the computation performed at every call" not in text, page.name
