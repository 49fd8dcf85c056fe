"""The book in a real browser: drawn, searchable, quiet on the network, and never too wide."""

import functools
import http.server
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from book.browser import ARGUMENTS, find_browser
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from project import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDE, PHONE = 1280, 390
ATTENTION = "chapters/04_architecture/01_attention"
PAGES = ["book/index", "book/coverage", "book/notation"]
PAGES += [ATTENTION] if (ROOT / f"{ATTENTION}.ipynb").exists() else []

DRAWN = """async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    return {
        formulas: document.querySelectorAll("span.math, div.math").length,
        drawn: document.querySelectorAll("mjx-container").length,
        errors: document.querySelectorAll("mjx-merror, [data-mjx-error], merror").length,
        missing: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src),
    };
}"""
OVERFLOW = """async () => {
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    const width = document.documentElement.clientWidth;
    const wide = document.documentElement.scrollWidth;
    if (wide <= width) return "";
    const outside = [...document.querySelectorAll("main *")].filter(
        element => element.getBoundingClientRect().right > width + 1);
    const first = outside.slice(0, 3).map(element => element.outerHTML.slice(0, 90));
    return `${wide} > ${width}: ${first.join(" ")}`;
}"""


@dataclass
class Visit:
    """A page of the browser, and what it asked for and complained about."""

    page: Page
    root: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({self.page.url})")

    def open(self, name: str) -> Page:
        """Go to a page by its name."""
        self.page.goto(f"{self.root}/{name}")
        return self.page

    def outside(self) -> list[str]:
        """The requests that would leave this machine."""
        local = (self.root, "data:", "blob:", "about:")
        return [url for url in self.requests if not url.startswith(local)]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that does not write a line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        reason = "no Chromium or Chrome on this machine: the book was not looked at"
        if os.environ.get("LLMLIB_REQUIRE_BROWSER") == "1":
            pytest.fail(f"{reason}, and LLMLIB_REQUIRE_BROWSER=1")
        pytest.skip(reason)
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture(scope="module")
def served(html: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def visit(browser: Browser, root: str, width: int = WIDE) -> Visit:
    size = {"width": width, "height": 900}
    context = browser.new_context(viewport=size, color_scheme="light")  # pyright: ignore[reportArgumentType]
    context.set_default_timeout(120_000)  # ms; a machine that also trains a model is slow
    return Visit(context.new_page(), root)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_drawn_whole_from_the_disk(browser: Browser, html: Path, name: str) -> None:
    seen = visit(browser, html.as_uri())
    found = seen.open(f"{name}.html").evaluate(DRAWN)
    assert found["missing"] == []
    assert found["errors"] == 0
    if found["formulas"]:
        assert found["drawn"] >= found["formulas"]
    assert seen.outside() == []
    assert seen.complaints == []
    seen.page.context.close()


def test_formulas_are_drawn(browser: Browser, html: Path) -> None:
    seen = visit(browser, html.as_uri())
    assert seen.open("book/notation.html").evaluate(DRAWN)["drawn"] > 50
    seen.page.context.close()


@pytest.mark.parametrize("where", ["disk", "server"])
def test_search_finds_a_word(browser: Browser, html: Path, served: str, where: str) -> None:
    seen = visit(browser, html.as_uri() if where == "disk" else served)
    page = seen.open("search.html?q=perplexity")
    # Results come in one by one, titles first.
    page.locator("#search-results ul.search li a", has_text="Glossary").first.wait_for()
    assert seen.outside() == []
    if where == "server":
        assert seen.complaints == []
    seen.page.context.close()


def test_the_theme_switches_between_light_and_dark(browser: Browser, html: Path) -> None:
    seen = visit(browser, html.as_uri())
    page = seen.open("book/index.html")
    background = "() => getComputedStyle(document.body).backgroundColor"
    backgrounds = {}
    for _ in range(3):  # light, dark, and as the system says
        theme = page.evaluate("() => document.documentElement.dataset.theme")
        backgrounds[theme] = page.evaluate(background)
        page.locator("button.theme-switch-button:visible").first.click()
        page.wait_for_timeout(350)
    assert backgrounds.keys() == {"light", "dark"}
    assert backgrounds["light"] != backgrounds["dark"]
    assert seen.complaints == []
    seen.page.context.close()


def test_the_coverage_page_filters_its_rows(browser: Browser, html: Path) -> None:
    seen = visit(browser, html.as_uri())
    page = seen.open("book/coverage.html")
    rows = page.locator("table.coverage tr.technique:visible")
    everything = rows.count()
    cells = [cell.bounding_box() for cell in rows.first.locator("td").all()]
    assert all(cells)
    assert len({round(box["y"]) for box in cells if box}) == 1, "a row's cells stand side by side"
    page.get_by_role("button", name="Beyond the survey").click()
    assert 0 < rows.count() < everything
    page.get_by_role("button", name="All").click()
    assert rows.count() == everything
    seen.page.context.close()


def test_no_page_is_wider_than_its_screen(browser: Browser, html: Path) -> None:
    seen = visit(browser, html.as_uri())
    too_wide = []
    for path in sorted(html.rglob("*.html")):
        name = path.relative_to(html).as_posix()
        if "_static" in name or name == "index.html":  # the latter only leads to book/index
            continue
        seen.page.set_viewport_size({"width": WIDE, "height": 900})
        page = seen.open(name)
        for width in (WIDE, PHONE):
            page.set_viewport_size({"width": width, "height": 900})
            problem = page.evaluate(OVERFLOW)
            if problem:
                too_wide.append(f"{name} at {width}: {problem}")
    assert too_wide == []
    assert seen.outside() == []
    assert seen.complaints == []
    seen.page.context.close()
