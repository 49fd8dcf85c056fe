"""A small book with one filled row: its section, its object and its test point at each other."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT
from surveybook.api import subpackages

HEADER = "id,chapter,survey,technique,done_when,symbol,notebook,test,result\n"
ROWS = (
    "core.cache,introduction,beyond,A cache,it holds,llmlib.core.cache.cache_dir,"
    "chapters/01_introduction/01_cache.md#why-a-cache,tests/core/test_a.py::test_holds,"
    "held 3 of 3\n"
    "core.other,introduction,2.1,Another,it is there,,,,\n"
)
PAGES = {
    "conf.py": (
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'surveybook']\n"
        "default_role = 'code'\n"
        "napoleon_use_rtype = False\n"
        "myst_enable_extensions = ['colon_fence']\n"
    ),
    "index.md": (
        "# Book\n```{toctree}\nchapters/01_introduction/index\n"
        "chapters/01_introduction/01_cache\nbook/coverage\n```\n"
        "```{toctree}\n:glob:\nbook/api/*\n```\n"
    ),
    "book/coverage.csv": HEADER + ROWS,
    "book/beyond.csv": "method,id\n",
    "book/coverage.md": (
        "# Coverage\n```{coverage-counts}\n```\n```{coverage} introduction\n```\n"
        "```{beyond-the-survey}\n```\n"
    ),
    **{f"book/api/{name}.rst": "" for name in ("llmlib.core", *subpackages("llmlib.core"))},
    "chapters/01_introduction/index.md": (
        "# Introduction\n```{chapter-progress} introduction\n```\n"
        "```{sections} 01_introduction\n01_cache | Caches | why\n02_next | Next | later\n```\n"
    ),
    "chapters/01_introduction/01_cache.md": "# Caches\n\n## Why a cache\n\nBecause.\n",
    "tests/core/test_a.py": "def test_holds() -> None:\n    assert 1 < 2\n",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small_book")
    for name, text in PAGES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    out = root / "out"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-b", "html", str(root), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def text(small: Path, name: str) -> str:
    return (small / name).read_text(encoding="utf-8")


def test_an_object_names_the_section_that_teaches_it(small: Path) -> None:
    page = text(small, "book/api/llmlib.core.html")
    entry = page[page.index('id="llmlib.core.cache.cache_dir"') :]
    assert "Taught in" in entry
    assert 'href="../../chapters/01_introduction/01_cache.html"' in entry


def test_a_section_ends_with_its_objects(small: Path) -> None:
    page = text(small, "chapters/01_introduction/01_cache.html")
    section = page[page.index('id="in-the-library"') :]
    assert 'href="../../book/api/llmlib.core.html#llmlib.core.cache.cache_dir"' in section


def test_a_filled_row_leads_to_section_object_and_proof(small: Path) -> None:
    page = text(small, "book/coverage.html")
    row = page[page.index('id="core-cache"') : page.index('id="core-other"')]
    assert 'href="../chapters/01_introduction/01_cache.html#why-a-cache"' in row
    assert 'href="api/llmlib.core.html#llmlib.core.cache.cache_dir"' in row
    assert 'href="../tests/core/test_a.html#test_holds"' in row
    assert "held 3 of 3" in row
    assert "status-done" in row
    assert '<span id="test_holds"></span>' in text(small, "tests/core/test_a.html")


def test_an_empty_row_is_planned_and_links_to_nothing(small: Path) -> None:
    page = text(small, "book/coverage.html")
    row = page[page.index('id="core-other"') :].partition("</tr>")[0]
    assert "status-planned" in row
    assert "<a " not in row


def test_a_written_section_is_a_link_and_a_planned_one_is_not(small: Path) -> None:
    page = text(small, "chapters/01_introduction/index.html")
    written, planned = page.partition('<li class="planned">')[::2]
    assert 'href="01_cache.html"' in written
    assert "<a " not in planned.partition("</li>")[0]
    assert "1 of 2 techniques" in written
