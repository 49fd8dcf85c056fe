"""Reading and showing the survey's tables: types, selection, output, errors that name the line."""

import dataclasses
import html.parser
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.core.survey.rows import SCHEMAS, Row
from llmlib.core.survey.tables import Table, YearMonth, load_table, read_table, table_names


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Row):
    KEY: ClassVar[tuple[str, ...]] = ("name",)

    name: str
    count: int | None
    ratio: float
    flag: bool | None
    since: YearMonth | None
    kind: Literal["small", "large"]


HEADER = "name,count,ratio,flag,since,kind,paper,source_edition,source_place,note"
GOOD = (
    "a,3,0.5,true,2020-05,small,,here,table 1,",
    "b,,1e-4,,2019,large,,here,table 1,with | a bar & <tag>",
    "c,2,7,false,,small,,here,table 1,",
)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "toy.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def toy(tmp_path: Path) -> Table[Toy]:
    return read_table(write(tmp_path, HEADER, *GOOD), Toy)


def test_cells_take_the_types_of_their_fields(toy: Table[Toy]):
    first, second, third = toy
    assert toy.name == "toy" and len(toy) == 3
    assert (first.count, first.ratio, first.flag, first.kind) == (3, 0.5, True, "small")
    assert isinstance(third.ratio, float) and isinstance(third.count, int)
    assert first.since is not None and (first.since.year, first.since.month) == (2020, 5)
    assert (second.count, second.flag, second.ratio) == (None, None, 1e-4)
    assert second.since is not None and second.since.month is None
    assert third.flag is False and third.since is None and third.paper is None
    assert toy.columns == tuple(HEADER.split(","))


def test_rows_are_frozen(toy: Table[Toy]):
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy[0].ratio = 2.0  # pyright: ignore[reportAttributeAccessIssue]


def test_rows_are_found_selected_and_sorted(toy: Table[Toy]):
    assert toy.row("b").ratio == 1e-4
    assert toy.where(kind="small").column("name") == ("a", "c")
    assert toy.where(count=None).column("name") == ("b",)
    assert toy.where(lambda row: row.ratio > 0.1, kind="small", flag=False).column("name") == ("c",)
    assert toy.sorted_by("count").column("name") == ("c", "a", "b")
    assert toy.sorted_by("count", reverse=True).column("name") == ("a", "c", "b")
    assert toy.sorted_by("since").column("name") == ("b", "a", "c")


def test_a_wrong_key_or_column_says_what_there_is(toy: Table[Toy]):
    with pytest.raises(KeyError, match="a, b, c"):
        toy.row("z")
    with pytest.raises(ValueError, match="named by name"):
        toy.row("a", "b")
    for act in (
        lambda: toy.column("size"),
        lambda: toy.where(size=3),
        lambda: toy.sorted_by("size"),
        lambda: toy.to_html(["size"]),
    ):
        with pytest.raises(ValueError, match="no column 'size'; its columns are name, count"):
            act()


class Cells(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_html_is_well_formed_and_escaped(toy: Table[Toy]):
    parser = Cells()
    parser.feed(toy.to_html(["name", "ratio", "note"]))
    assert parser.open == []
    assert parser.rows == [
        ["name", "ratio", "note"],
        ["a", "0.5", ""],
        ["b", "0.0001", "with | a bar & <tag>"],
        ["c", "7", ""],
    ]


def test_a_notebook_leaves_out_empty_columns(toy: Table[Toy]):
    shown = toy._repr_html_()
    assert "<th>paper</th>" not in shown and "<th>note</th>" in shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("d,x,1,,,small,,e,p,", "column 'count': 'x' is not a plain integer"),
        ("d,1.5,1,,,small,,e,p,", "column 'count': '1.5' is not a plain integer"),
        ("d,1_0,1,,,small,,e,p,", "column 'count': '1_0' is not a plain integer"),
        ("d,1,nan,,,small,,e,p,", "column 'ratio': 'nan' is not a plain number"),
        ("d,1,inf,,,small,,e,p,", "column 'ratio': 'inf' is not a plain number"),
        ("d,1,175B,,,small,,e,p,", "column 'ratio': '175B' is not a plain number"),
        ("d,1,,,,small,,e,p,", "column 'ratio': a value is required"),
        (",1,1,,,small,,e,p,", "column 'name': a value is required"),
        ("d,1,1,yes,,small,,e,p,", "column 'flag': write true or false, not 'yes'"),
        ("d,1,1,,2020-13,small,,e,p,", "column 'since': write a date as YYYY or YYYY-MM"),
        ("d,1,1,,20-1,small,,e,p,", "column 'since': write a date as YYYY or YYYY-MM"),
        ("d,1,1,,,huge,,e,p,", "column 'kind': 'huge' is not one of 'small', 'large'"),
        ("d,1,1,,,small,,,p,", "column 'source_edition': a value is required"),
        ("d,1,1,,,small,,e,,", "column 'source_place': a value is required"),
        ("d, 1,1,,,small,,e,p,", "column 'count': remove the space round ' 1'"),
        ("d,1,1,,,small,,e,p", "9 cells for 10 columns"),
        ("a,1,1,,,small,,e,p,", r"the key \('a',\) is already on line 2"),
        ('d,1,1,,,"small"x,,e,p,', "expected after"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str, message: str):
    path = write(tmp_path, HEADER, *GOOD, line)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path, Toy)
    assert str(caught.value).startswith(f"{path}, line 5: ")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "no column 'name', 'count'"),
        (HEADER.replace("ratio,", ""), "no column 'ratio'"),
        (HEADER + ",extra", "unknown column 'extra'"),
        (HEADER.replace("name,count", "count,name"), "in this order"),
        (HEADER.replace("name,", "name,name,"), "each once"),
    ],
)
def test_a_bad_header_is_refused(tmp_path: Path, header: str, message: str):
    path = write(tmp_path, header, *GOOD)
    with pytest.raises(ValueError, match=message) as caught:
        read_table(path, Toy)
    assert str(caught.value).startswith(f"{path}, line 1: ")


def test_an_empty_or_undecodable_file_is_refused(tmp_path: Path):
    path = tmp_path / "toy.csv"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"toy\.csv, line 1: no column"):
        read_table(path, Toy)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"toy\.csv, line 1: .*utf-8"):
        read_table(path, Toy)


def test_an_unknown_table_is_answered_with_the_names():
    with pytest.raises(ValueError, match="no table 'planets'; choose one of apis, architectures"):
        load_table("planets")
    assert table_names() == tuple(sorted(SCHEMAS))


def test_the_same_table_is_read_once():
    assert load_table("models") is load_table("models")


@given(year=st.integers(1, 9999), month=st.integers(1, 12))
def test_dates_sort_and_convert(year: int, month: int):
    date = YearMonth(f"{year:04d}-{month:02d}")
    assert (date.year, date.month) == (year, month)
    assert year <= date.decimal < year + 1
    assert YearMonth(f"{year:04d}").decimal <= date.decimal
    if month < 12:
        later = YearMonth(f"{year:04d}-{month + 1:02d}")
        assert date < later and date.decimal < later.decimal


@pytest.mark.parametrize(
    "text", ["", "20", "2020-", "2020-0", "2020-00", "2020-13", "2020-1-1", "²020"]
)
def test_what_is_not_a_date_is_refused(text: str):
    with pytest.raises(ValueError, match="YYYY-MM"):
        YearMonth(text)


def test_reading_a_table_does_not_load_torch():
    code = "import sys; from llmlib.core.survey.tables import load_table; load_table('models')"
    code += "; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
