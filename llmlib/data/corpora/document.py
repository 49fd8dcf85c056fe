"""One text and where it came from; a corpus is a sequence of them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from llmlib.core.files import atomic_path
from llmlib.data.corpora.units import text_bytes


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text with its provenance.

    Example:
        >>> Document(text="A set of nodes.", source="notes.txt", meta={"module": "notes"}).n_bytes
        15
    """

    text: str
    source: str
    """Where it was read, for people: a package and version, a file and line, a data set."""
    meta: dict[str, Any] = field(default_factory=dict)
    """JSON-able facts about it. `module` names the unit by which a corpus is split into train and
    held-out parts."""

    @property
    def n_bytes(self) -> int:
        """Length of the text in UTF-8 bytes."""
        return text_bytes(self.text)

    def with_text(self, text: str) -> "Document":
        """Return the document with another text; the same object if the text is the same."""
        return self if text == self.text else replace(self, text=text)


_Text = TypeVar("_Text", str, Document)


def text_blocks(
    texts: Iterable[_Text], max_characters: int, max_texts: int | None = None
) -> Iterator[list[_Text]]:
    """Gather texts or documents, read lazily, into blocks, so that memory is bounded.

    One longer than the most characters is a block by itself.

    Example:
        >>> [*text_blocks(("one", "two", "three"), 6)]
        [['one', 'two'], ['three']]
    """
    block: list[_Text] = []
    size = 0
    for text in texts:
        length = len(text if isinstance(text, str) else text.text)
        if block and (size + length > max_characters or len(block) == max_texts):
            yield block
            block, size = [], 0
        block.append(text)
        size += length
    if block:
        yield block


def corpus_bytes(documents: Iterable[Document]) -> int:
    """Sum the documents' lengths in UTF-8 bytes."""
    return sum(document.n_bytes for document in documents)


def corpus_sha256(documents: Iterable[Document]) -> str:
    """Hash the texts of a corpus in order, so that a result can name what it was measured on.

    Each text is hashed after its length in bytes (8 bytes, little-endian), so that moving a
    boundary between two documents changes the hash. Sources and meta do not enter.

    Example:
        >>> one = [Document(text="ab", source="x"), Document(text="c", source="x")]
        >>> two = [Document(text="a", source="x"), Document(text="bc", source="x")]
        >>> corpus_sha256(one) == corpus_sha256(two)
        False
    """
    digest = hashlib.sha256()
    for document in documents:
        data = document.text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def save_documents(path: str | Path, documents: Iterable[Document]) -> None:
    """Write a corpus as JSON lines, whole or not at all.

    A lone surrogate, which UTF-8 cannot hold, is written as JSON's escape, in any field.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as out,
    ):
        for document in documents:
            row = {"text": document.text, "source": document.source, "meta": document.meta}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def load_documents(path: str | Path) -> list[Document]:
    """Read a corpus that `save_documents` wrote into memory."""
    return list(iterate_documents(path))


def iterate_documents(path: str | Path) -> Iterator[Document]:
    """Read a corpus that `save_documents` wrote, one document at a time.

    Raises:
        ValueError: If a line is not one of ours (the file and the line are named).
    """
    with Path(path).open(encoding="utf-8-sig", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                document = Document(text=row["text"], source=row["source"], meta=row["meta"])
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: not a saved document ({error})"
                ) from error
            yield document
