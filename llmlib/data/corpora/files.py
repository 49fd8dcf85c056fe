"""Text from files and folders of any size, with an account of what could not be read."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.reading import (
    Problem,
    Source,
    Unreadable,
    read_csv,
    read_html,
    read_json_lines,
    read_plain,
    text_format,
)

_READERS: dict[str, Callable[[Source], Iterator[Document | Problem]]] = {
    ".txt": read_plain,
    ".jsonl": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".html": read_html,
    ".htm": read_html,
}
FORMATS = tuple(_READERS)
_KEPT = 1000  # problems kept one by one; the rest are counted


@dataclass
class ReadReport:
    """What a reading has done so far; it is up to date at every step, also after an error."""

    files: int = 0
    documents: int = 0
    bytes: int = 0
    """UTF-8 bytes of the documents read."""
    problems: list[Problem] = field(default_factory=list)
    """What could not be read, with file and line: the first 1,000."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Number of problems by reason, without the particulars in parentheses."""

    def add(self, problem: Problem) -> None:
        """Count a problem, and keep it if it is among the first."""
        self.reasons[problem.reason.partition(" (")[0]] += 1
        if len(self.problems) < _KEPT:
            self.problems.append(problem)


def read_files(
    path: str | Path,
    *,
    field: str = "text",
    formats: Sequence[str] = FORMATS,
    on_error: str = "refuse",
    report: ReadReport | None = None,
    part_bytes: int = 50_000,
    max_bytes: int = 16 << 20,
    main_content: bool = True,
) -> Iterator[Document]:
    r"""Read a file, or every text file below a folder, one document at a time.

    `.txt` is one document, or several cut at blank lines; `.jsonl`, `.csv` and `.tsv` hold one a
    line or row; `.html` and `.htm` one a page. Each may end in `.gz` or `.zst`. No more than a
    line, a part or a page is in memory.

    Args:
        field: Where a JSON line or a row holds its text.
        on_error: `refuse` stops at the first problem. `skip` notes it and goes on: after a bad
            JSON line or row with the next, after an undecodable or endless line of plain text or
            CSV, or damaged compression, with the next file (parts before it have been read).
        report: Filled on the way; make one to see it afterwards.
        part_bytes: Length from which on a text file is cut at the next blank line.
        max_bytes: Longest line or row, and largest page.
        main_content: Whether to leave out what surrounds the article of a page.

    Yields:
        The documents that are not blank, in order of path and line; `meta["module"]` names file and
        part or line.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If an argument is wrong, the file has another ending, there is no text at all,
            or, with `refuse`, anything cannot be read (file and line are named).

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     lines = Path(folder) / "a.jsonl"
        ...     _ = lines.write_text('{"text": "One."}\n{"text": \n{"text": "Two."}\n')
        ...     report = ReadReport()
        ...     texts = [d.text for d in read_files(folder, on_error="skip", report=report)]
        >>> texts, report.reasons, report.problems[0].line
        (['One.', 'Two.'], Counter({'not JSON': 1}), 2)
    """
    if on_error not in ("refuse", "skip"):
        raise ValueError(f"on_error is 'refuse' or 'skip', not {on_error!r}")
    if unknown := set(formats) - set(FORMATS):
        raise ValueError(f"unknown formats {sorted(unknown)}; choose from {FORMATS}")
    if part_bytes < 1 or max_bytes < 1:
        raise ValueError(f"part_bytes={part_bytes} and max_bytes={max_bytes} must be at least 1")
    report = report if report is not None else ReadReport()
    root = Path(path)
    before = report.documents
    for file, name in _files(root, formats):
        source = Source(
            path=file,
            name=name,
            field=field,
            part_bytes=part_bytes,
            max_bytes=max_bytes,
            main_content=main_content,
        )
        report.files += 1
        for item in _items(source):
            if isinstance(item, Document):
                report.documents += 1
                report.bytes += item.n_bytes
                yield item
                continue
            report.add(item)
            if on_error == "refuse":
                raise ValueError(str(item))
    if report.documents == before:
        skipped = f"; problems: {dict(report.reasons)}" if report.reasons else ""
        raise ValueError(
            f"{root} holds no text: no {' or '.join(formats)} file with anything but blanks"
            f"{skipped}"
        )


def read_texts(
    path: str | Path, *, field: str = "text", part_bytes: int = 50_000
) -> list[Document]:
    """Read a file, or every `.txt` and `.jsonl` file below a folder, into memory.

    `read_files` reads more formats, without holding them in memory, and can go on after a problem.

    Args:
        path: File or folder; the files may be compressed (`.gz`, `.zst`).
        part_bytes: Length, in UTF-8 bytes, from which on a text file is cut at the next blank line.

    Returns:
        The documents that are not blank, in order of path and line; `meta["module"]` names file
        and part or line, `meta` also holds a JSON line's other fields.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If a file is not UTF-8 or not JSON lines (file and line are named), a line lacks
            the field, or there is no text at all.
    """
    formats = (".txt", ".jsonl")
    return [*read_files(path, field=field, formats=formats, part_bytes=part_bytes)]


def _files(root: Path, formats: Sequence[str]) -> Iterator[tuple[Path, str]]:
    if not root.exists():
        raise FileNotFoundError(f"no file or folder {root}")
    if root.is_file():
        if text_format(root) not in formats:
            *others, last = formats
            known = f"neither {', '.join(others)} nor {last}" if others else f"not {last}"
            raise ValueError(f"{root} is {known}; rename or convert it")
        yield root, root.name
        return
    for file in sorted(root.rglob("*")):
        if file.is_file() and text_format(file) in formats:
            yield file, file.relative_to(root).as_posix()


def _items(source: Source) -> Iterator[Document | Problem]:
    try:
        yield from _READERS[text_format(source.path)](source)
    except Unreadable as error:
        yield Problem(str(source.path), error.line, error.reason)
