"""Take the README's picture of the book, or pictures of any page: wide and phone, light and dark.

`python tools/book/screenshot.py` refreshes book/_static/book.png;
`python tools/book/screenshot.py book/notation chapters/04_architecture/index` writes build/shots.
"""

import argparse
from pathlib import Path

from browser import ARGUMENTS, find_browser
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "build" / "book" / "_build" / "html"
SHOTS = ROOT / "build" / "shots"
PICTURE = ROOT / "book" / "_static" / "book.png"
WIDTHS = {"wide": (1280, 860), "phone": (390, 844)}


def shoot(browser: Browser, page_name: str, size: str, theme: str, target: Path) -> None:
    """Write one picture of one page."""
    width, height = WIDTHS[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)  # pyright: ignore[reportArgumentType]
    context.add_init_script(
        f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');"
    )
    page = context.new_page()
    page.goto((HTML / f"{page_name}.html").as_uri())
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)  # MathJax draws after the page has loaded
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target)
    context.close()


def shrink(path: Path) -> None:
    """Fewer colours: a picture for a README need not weigh more than the page."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(colors=128)
    reduced.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", help="pages without .html; none: the README's picture")
    parser.add_argument("--dark", action="store_true", help="dark instead of light")
    pages = parser.parse_args()
    theme = "dark" if pages.dark else "light"
    path = find_browser()
    if path is None:
        raise SystemExit("No Chromium or Chrome is installed: a picture needs one.")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        for name in pages.pages:
            for size in WIDTHS:
                shoot(
                    browser, name, size, theme,
                    SHOTS / f"{name.replace('/', '_')}-{size}-{theme}.png",
                )  # fmt: skip
        if not pages.pages:
            shoot(browser, "book/index", "wide", "light", PICTURE)
            shrink(PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
