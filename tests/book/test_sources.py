"""What the book is made from: its table, its contents, its lists, and its small converters."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from project import ROOT
from surveybook import api, coverage, docstrings
from surveybook.coverage import CHAPTERS

from book import build

BOOK = ROOT / "book"
TABLE = BOOK / "coverage.csv"


def toc_entries(node: object) -> list[str]:
    """Every file and glob of a table of contents."""
    if isinstance(node, dict):
        own = [str(value) for key, value in node.items() if key in ("file", "glob", "root")]
        return own + [entry for value in node.values() for entry in toc_entries(value)]
    if isinstance(node, list):
        return [entry for value in node for entry in toc_entries(value)]
    return []


@pytest.fixture(scope="module")
def contents() -> list[str]:
    return toc_entries(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))


def test_every_file_of_the_contents_exists(contents: list[str]) -> None:
    files = [entry for entry in contents if "*" not in entry and "api/llmlib." not in entry]
    for entry in files:
        assert any((ROOT / f"{entry}{suffix}").is_file() for suffix in (".md", ".ipynb")), entry


def test_every_chapter_page_and_notebook_is_in_the_contents(contents: list[str]) -> None:
    folders = sorted(path.name for path in (ROOT / "chapters").iterdir() if path.is_dir())
    assert folders == [f"{number:02d}_{name}" for number, name in enumerate(CHAPTERS, 1)]
    for folder in folders:
        assert f"chapters/{folder}/index" in contents
        assert f"chapters/{folder}/[0-9]*" in contents  # sections come in by their names
        for notebook in (ROOT / "chapters" / folder).glob("*.ipynb"):
            assert notebook.name[0].isdigit(), f"{notebook.name} would not be in the book"


def test_the_table_has_every_chapter_and_each_id_once() -> None:
    rows = coverage.load(TABLE)
    assert {row.chapter for row in rows} == set(CHAPTERS)
    assert max(Counter(row.id for row in rows).values()) == 1


def test_methods_beyond_the_survey_stand_in_rows() -> None:
    ids = {row.id for row in coverage.load(TABLE)}
    with (BOOK / "beyond.csv").open(newline="", encoding="utf-8") as file:
        beyond = list(csv.DictReader(file))
    assert len(beyond) >= 24
    assert {row["id"] for row in beyond} <= ids


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "coverage.csv"
    path.write_text("id,chapter\na,b\n", encoding="utf-8")
    with pytest.raises(ValueError, match="must have the columns id,chapter,survey"):
        coverage.load(path)


@pytest.mark.parametrize(
    ("symbols", "notebooks", "tests", "status"),
    [
        ((), (), (), "planned"),
        (("llmlib.x",), (), (), "planned"),
        (("llmlib.x",), ("a.ipynb",), (), "planned"),
        (("llmlib.x",), (), ("tests/a.py::test_b",), "built"),
        (("llmlib.x",), ("a.ipynb",), ("tests/a.py::test_b",), "done"),
    ],
)
def test_a_row_counts_as_done_only_with_its_proof_and_its_section(
    symbols: tuple[str, ...], notebooks: tuple[str, ...], tests: tuple[str, ...], status: str
) -> None:
    row = coverage.Row("a", "b", "1", "c", "d", symbols, notebooks, tests, "")
    assert row.status == status


def test_an_alias_leads_to_the_defining_module() -> None:
    name = coverage.canonical("llmlib.core.cache.cache_dir")
    assert name == "llmlib.core.cache.cache_dir"
    with pytest.raises(ValueError, match="names no object"):
        coverage.find("llmlib.core.cache.no_such_thing")
    assert coverage.find("pathlib.Path.exists") is Path.exists


def test_every_floor_is_in_the_contents_with_its_subpackages(contents: list[str]) -> None:
    floors = {path.parent.name for path in (ROOT / "llmlib").glob("*/__init__.py")}
    entries = [f"book/api/llmlib.{name}{end}" for name in floors for end in ("", ".*")]
    assert sorted(entries) == sorted(name for name in contents if "api/llmlib." in name)


def test_a_page_is_laid_for_every_floor_and_subpackage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llmlib.gone.rst").touch()
    monkeypatch.setattr(build, "REFERENCE", tmp_path)
    build.lay_reference()
    pages = {path.stem for path in tmp_path.iterdir()}
    assert {"llmlib.core", "llmlib.data.tokenizers"} < pages
    floors = [name for name in pages if name.count(".") == 1]
    assert pages == {name for floor in floors for name in (floor, *api.subpackages(floor))}


def test_every_public_module_stands_on_one_page_of_the_reference() -> None:
    floors = [f"llmlib.{path.parent.name}" for path in (ROOT / "llmlib").glob("*/__init__.py")]
    named = [
        module
        for floor in floors
        for package in (floor, *api.subpackages(floor))
        for module in api.modules(package)
    ]
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "llmlib").rglob("*.py")]
    public = [".".join(file.parts) for file in files if not file.name.startswith("_")]
    assert sorted(named) == sorted(public)


def test_a_floor_leads_to_its_subpackages_and_holds_its_own_modules() -> None:
    page = api.page("llmlib.core")
    assert ":doc:`llmlib.core.hardware </book/api/llmlib.core.hardware>`" in page
    assert ".. automodule:: llmlib.core.files\n" in page
    assert ".. automodule:: llmlib.core.hardware.memory\n" not in page


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("Takes `None` or more.", "Takes ``None`` or more."),
        ("Returns $a_t$, once.", "Returns :math:`a_t`, once."),
        ("the `y`s", r"the ``y``\ s"),
        ("A formula $a +\nb$ over lines", "A formula :math:`a + b` over lines"),
        ("It costs $5 and $6 more", "It costs $5 and $6 more"),
        ("names like w_ and *rows", r"names like w\_ and \*rows"),
        ("$$a = b$$", "\n.. math::\n\n   a = b\n"),
        (">>> print(`x`) # $y$\n2", ">>> print(`x`) # $y$\n2"),
        ("Already :math:`x_`.", r"Already :math:`x_`."),
    ],
)
def test_docstring_marks_are_converted(written: str, expected: str) -> None:
    assert docstrings.convert(written) == expected


def test_a_method_has_the_text_of_its_base_in_the_library_and_no_other() -> None:
    assert not docstrings.is_of_others("llmlib.architecture.caches.base.TensorCache.nbytes")
    assert docstrings.is_of_others("llmlib.core.statistics.Interval.count")  # a tuple's


def test_the_glossary_and_the_bibliography_are_sorted_complete_and_without_doubles() -> None:
    terms = re.findall(r"^(\S.*)\n  \S", (BOOK / "glossary.md").read_text(encoding="utf-8"), re.M)
    assert len(terms) >= 80
    assert terms == sorted(set(terms), key=str.lower)
    text = (BOOK / "references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{([\w-]+),\n(.*?)\n\}", text, re.M | re.S)
    assert len(entries) >= 120
    assert max(Counter(key for key, _ in entries).values()) == 1
    for key, body in entries:
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\}", body, re.M))
        assert {"author", "title", "year"} <= fields.keys(), key
        assert re.search(fields["year"], key), f"{key} is dated {fields['year']}"
        if "eprint" in fields:
            number = re.fullmatch(r"(\d\d)(\d\d)\.\d{4,5}", fields["eprint"])
            assert number and 1 <= int(number[2]) <= 12, key
            # A preprint comes out before the venue, and rarely more than two years before.
            assert -1 <= int(fields["year"]) - 2000 - int(number[1]) <= 4, key
