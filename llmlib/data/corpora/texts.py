"""Text from files of the reader's own: plain text and JSON lines."""

import json
from collections.abc import Iterator
from pathlib import Path

from llmlib.data.corpora.document import Document

_SUFFIXES = (".txt", ".jsonl")


def read_texts(
    path: str | Path, *, field: str = "text", part_bytes: int = 50_000
) -> list[Document]:
    """Read a file, or every `.txt` and `.jsonl` file below a folder.

    A `.txt` file is one document, or several if it is long: it is then cut at blank lines, so
    that a corpus of one file can still be split into train and held-out parts. Each line of a
    `.jsonl` file is one document.

    Args:
        path: File or folder.
        field: Where a JSON line holds its text.
        part_bytes: Length, in UTF-8 bytes, from which on a text file is cut at the next blank line.

    Returns:
        The documents that are not blank, in order of path and line; `meta["module"]` names file
        and part or line, `meta` also holds a JSON line's other fields.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ValueError: If a file is not UTF-8 or not JSON lines (file and line are named), a line lacks
            the field, or there is no text at all.
    """
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"no file or folder {root}")
    if root.is_file() and root.suffix not in _SUFFIXES:
        raise ValueError(f"{root} is neither .txt nor .jsonl; rename or convert it")
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    documents = []
    for file in files:
        name = file.name if file == root else file.relative_to(root).as_posix()
        if file.suffix == ".txt":
            documents += _text_file(file, name, part_bytes)
        elif file.suffix == ".jsonl":
            documents += _json_lines(file, name, field)
    if not documents:
        raise ValueError(f"{root} holds no text: no .txt or .jsonl file with anything but blanks")
    return documents


def _read_utf8(file: Path) -> str:
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        byte = data[error.start]
        raise ValueError(
            f"{file}, line {line}: not UTF-8 (byte 0x{byte:02x}). Convert the file, for example "
            "with iconv -f latin1 -t utf-8."
        ) from error


def _text_file(file: Path, name: str, part_bytes: int) -> Iterator[Document]:
    parts = [""]
    for block in _read_utf8(file).split("\n\n"):
        if len(parts[-1].encode()) >= part_bytes:
            parts.append("")
        parts[-1] += f"{block}\n\n"
    for number, part in enumerate(parts):
        text = part.strip("\n")
        if text.strip():
            module = name if len(parts) == 1 else f"{name}#{number}"
            yield Document(text=text, source=name, meta={"module": module})


def _json_lines(file: Path, name: str, field: str) -> Iterator[Document]:
    for number, line in enumerate(_read_utf8(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error})") from error
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            found = f"fields {sorted(row)}" if isinstance(row, dict) else f"a {type(row).__name__}"
            raise ValueError(
                f"{where}: no text in field {field!r} ({found}). Name the right field."
            )
        text = row.pop(field)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{where}: the text holds a lone surrogate escape ({error})"
            ) from error
        if text.strip():
            yield Document(
                text=text, source=f"{name}:{number}", meta={**row, "module": f"{name}:{number}"}
            )
