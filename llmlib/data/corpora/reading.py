"""Files read record by record: plain or compressed, one problem at a time.

A reader of a format yields documents and, for records that cannot be used, problems; it raises
`Unreadable` where nothing after a place can be used. What to do about either is the caller's.
"""

import csv
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.html import BYTE_ORDER_MARKS, decode_html, html_document
from llmlib.data.corpora.units import text_bytes, with_line_feeds

_COMPRESSED = (".gz", ".zst")
_SNIFFED = 8192


@dataclass(frozen=True)
class Problem:
    """Something that could not be read."""

    file: str
    line: int
    """The line, from 1; 0 if the whole file is meant."""
    reason: str

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file to read, and how."""

    path: Path
    name: str
    field: str = "text"
    """Where a JSON line or a CSV row holds its text."""
    part_bytes: int = 50_000
    """Length in bytes from which on a text file is cut at the next blank line."""
    max_bytes: int = 16 << 20
    """Longest line or row, and largest page, in bytes."""
    main_content: bool = True
    """Whether to leave out what surrounds the article of a page."""


def text_format(path: Path) -> str:
    """Return the last ending of a name in small letters, `.gz` or `.zst` apart: how to read it.

    Example:
        >>> text_format(Path("a.b.JSONL.gz"))
        '.jsonl'
    """
    if path.suffix.lower() in _COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower()


class Unreadable(Exception):  # noqa: N818  (it names a state of the file, and never leaves here)
    """Nothing in the file from a line on can be used.

    Attributes:
        line: From 1; 0 if the whole file is meant.
    """

    def __init__(self, line: int, reason: str):
        super().__init__(reason)
        self.line = line
        self.reason = reason


def read_plain(source: Source) -> Iterator[Document | Problem]:
    """Read a text file as one document, or as several cut at blank lines."""
    part: list[str] = []
    size, number = 0, 0
    lines = (io.StringIO(with_line_feeds(line), newline="\n") for line in _decoded_lines(source))
    for line in itertools.chain.from_iterable(lines):
        part.append(line)
        size += text_bytes(line)
        if line == "\n" and size >= source.part_bytes:
            yield from _part(source, part, f"{source.name}#{number}")
            part, size, number = [], 0, number + 1
    yield from _part(source, part, f"{source.name}#{number}" if number else source.name)


def _part(source: Source, lines: list[str], module: str) -> Iterator[Document]:
    text = "".join(lines).strip("\n")
    if text.strip():
        yield Document(text=text, source=source.name, meta={"module": module})


def read_json_lines(source: Source) -> Iterator[Document | Problem]:
    """Read a file of JSON lines, one document a line."""
    with _opened(source.path) as stream:
        for number, raw in _raw_lines(stream, source.max_bytes):
            try:
                if raw is None:
                    raise ValueError(f"longer than {source.max_bytes} bytes")
                line = _decode(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw)
                if line.strip():
                    row = _json_row(line)
                    text = _text_of(row, source.field)
                    if text.strip():
                        yield _record(source, number, text, row)
            except ValueError as error:
                yield Problem(str(source.path), number, str(error))


def read_csv(source: Source) -> Iterator[Document | Problem]:
    """Read a file of comma- or tab-separated values with a header, one document a row.

    Raises:
        Unreadable: If the header has no such column, or quotes do not close.
    """
    delimiter = "\t" if text_format(source.path) == ".tsv" else ","
    rows = csv.reader(_decoded_lines(source), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        number = rows.line_num + 1
        # The limit on a field is the whole process's, and 128 KiB unless one changes it.
        limit = csv.field_size_limit(source.max_bytes)
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise Unreadable(number, f"not CSV ({error})") from error
        finally:
            csv.field_size_limit(limit)
        if header is None:
            if not row:
                continue  # a blank line, or a byte-order mark alone
            header = row
            if source.field not in header:
                raise Unreadable(number, f"no column {source.field!r} (columns {header})")
        elif len(row) != len(header):
            if row:
                reason = f"{len(row)} fields where the header has {len(header)}"
                yield Problem(str(source.path), number, reason)
        else:
            fields: dict[str, Any] = dict(zip(header, row, strict=True))
            text = fields.pop(source.field)
            if text.strip():
                yield _record(source, number, text, fields)


def read_html(source: Source) -> Iterator[Document | Problem]:
    """Read a page as one document.

    Raises:
        Unreadable: If it is too large, binary, or in an encoding that it does not name.
    """
    with _opened(source.path, binary_is_refused=False) as stream:
        data = stream.read(source.max_bytes + 1)
    if len(data) > source.max_bytes:
        raise Unreadable(0, f"a page of more than {source.max_bytes} bytes")
    try:
        html = decode_html(data)
    except ValueError as error:
        raise Unreadable(0, str(error)) from error
    if "\0" in html:
        raise Unreadable(0, "not text (it holds NUL characters)")
    document = html_document(html, source.name, main_content=source.main_content)
    if document.text:
        yield Document(
            text=document.text, source=source.name, meta={**document.meta, "module": source.name}
        )


def _record(source: Source, number: int, text: str, row: dict[str, Any]) -> Document:
    module = f"{source.name}:{number}"
    return Document(text=text, source=module, meta={**row, "module": module})


@contextmanager
def _opened(path: Path, *, binary_is_refused: bool = True) -> Iterator[io.BufferedReader]:
    """Open a file for reading, uncompressed on the way, or raise `Unreadable`."""
    damaged: tuple[type[Exception], ...] = (EOFError, zlib.error, OSError)
    if path.suffix.lower() == ".zst":
        damaged = (*damaged, _zstandard().ZstdError)
    try:
        with _stream(path) as stream, io.BufferedReader(stream, 1 << 20) as buffered:
            start = buffered.peek(_SNIFFED)[:_SNIFFED]
            if binary_is_refused:
                marks = (name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark))
                encoding = next(marks, "utf-8-sig")
                if encoding != "utf-8-sig":
                    raise Unreadable(0, f"{encoding.upper()}, not UTF-8")
                if b"\0" in start:
                    raise Unreadable(0, "binary, not text")
            yield buffered
    except damaged as error:
        raise Unreadable(0, f"cannot be read ({error or type(error).__name__})") from error


def _stream(path: Path) -> Any:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    if path.suffix.lower() == ".zst":
        return _zstandard().open(path, "rb")
    return path.open("rb")


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError(
            "reading .zst files needs the package `zstandard`: install this project with its "
            "`data` extra"
        ) from error
    return zstandard


def _raw_lines(stream: io.BufferedReader, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    r"""Yield numbered lines with their ends, `\r` among them, and None for one that is too long.

    At most `max_bytes` are in memory.
    """
    number, begun = 0, b""
    while read := stream.readline(max_bytes + 1 - len(begun)):
        # A final `\r` may be half of an end, and what ends in neither goes on.
        lines = (begun + read).splitlines(keepends=True)
        begun = b"" if read.endswith(b"\n") else lines.pop()
        for line in lines:
            number += 1
            yield number, line
        if len(begun) > max_bytes:
            while read and not read.endswith(b"\n"):
                read = stream.readline(max_bytes)
            number, begun = number + 1, b""
            yield number, None
    if begun:
        yield number + 1, begun


def _decoded_lines(source: Source) -> Iterator[str]:
    """Yield the lines of a text file with their ends."""
    with _opened(source.path) as stream:
        for number, raw in _raw_lines(stream, source.max_bytes):
            if raw is None:
                raise Unreadable(number, f"longer than {source.max_bytes} bytes")
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                line = _decode(raw)
            except ValueError as error:
                raise Unreadable(number, str(error)) from error
            yield line


def _decode(raw: bytes) -> str:
    if b"\0" in raw:
        raise ValueError("not text (it holds NUL characters)")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"not UTF-8 (byte 0x{raw[error.start]:02x}). Convert the file, for example with iconv "
            "-f latin1 -t utf-8."
        ) from error


def _json_row(line: str) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error


def _text_of(row: Any, field: str) -> str:
    """Take the text out of a JSON row, which then no longer holds it."""
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        found = f"fields {sorted(row)}" if isinstance(row, dict) else f"a {type(row).__name__}"
        raise ValueError(f"no text in field {field!r} ({found}). Name the right field.")
    text = row.pop(field)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text holds a lone surrogate escape ({error})") from error
    return text
