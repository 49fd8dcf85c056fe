"""Text from files of the reader's own: plain text and JSON lines."""

from pathlib import Path

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.files import read_files


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
