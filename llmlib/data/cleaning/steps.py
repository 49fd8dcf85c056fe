"""Ready-made steps: what cannot be text, what is there twice, and the first quality rules."""

import re
from dataclasses import dataclass

from llmlib.data.cleaning.pipeline import TextFilter
from llmlib.data.cleaning.rules.quality_rules import QualityRules, spacing_digest
from llmlib.data.corpora.document import Document

# C0 and C1 controls without tab, line feed, form feed, carriage return and next line.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")
_UNREADABLE = re.compile(r"[\ufffd\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Readable:
    """Drops what is no text at all: put it first.

    Attributes:
        max_chars: Largest document; whole files of data lie above.
        max_line_chars: Longest line, in characters.
        max_control: Largest share of control characters; a zip file read as Latin-1 has a tenth.
        max_unreadable: Largest share of replacement characters and lone surrogates, which a
            decoding with the wrong character set leaves behind. A surrogate cannot be written
            as UTF-8, so a single one counts as a wrong encoding.
    """

    max_chars: int = 2_000_000
    max_line_chars: int = 100_000
    max_control: float = 0.005
    max_unreadable: float = 0.005
    name: str = "readable"

    def reason(self, document: Document) -> str | None:
        """Say why a document cannot be read as text.

        Args:
            document: The document.

        Returns:
            `empty`, `gigantic`, `binary`, `wrong encoding`, `gigantic line`, or None.

        Example:
            >>> step = Readable()
            >>> step.reason(Document(text="PK" + chr(3) + chr(4), source="a.zip"))
            'binary'
        """
        text = document.text
        if not text or text.isspace():
            return "empty"
        if len(text) > self.max_chars:
            return "gigantic"
        if "\0" in text or len(_CONTROL.findall(text)) > self.max_control * len(text):
            return "binary"
        if not text.isascii():
            odd = _UNREADABLE.findall(text)
            if len(odd) > self.max_unreadable * len(text) or any(c != "\ufffd" for c in odd):
                return "wrong encoding"
        if len(text) > self.max_line_chars:
            longest = max(map(len, text.split("\n")))
            if longest > self.max_line_chars:
                return "gigantic line"
        return None


class ExactDuplicates:
    """Drops documents equal, up to white space, to an earlier one of the run.

    Memory: 16 bytes of hash, and Python's set around it, for each different document.

    Args:
        name: The step's name.
    """

    def __init__(self, name: str = "exact duplicates") -> None:
        self.name = name
        self._seen: set[bytes] = set()

    def start(self) -> None:
        """Forget the documents of earlier runs."""
        self._seen = set()

    def reason(self, document: Document) -> str | None:
        """Say whether the document came before.

        Args:
            document: The document.

        Returns:
            `duplicate`, or None the first time.

        Example:
            >>> step = ExactDuplicates()
            >>> [step.reason(Document(text=text, source="x")) for text in ("a b", "a  b")]
            [None, 'duplicate']
        """
        key = spacing_digest(document.text)
        if key in self._seen:
            return "duplicate"
        self._seen.add(key)
        return None


def quality_step(rules: QualityRules | None = None, name: str = "hardly prose") -> TextFilter:
    """Make a step of the rules that `clean` uses.

    Args:
        rules: The bounds; by default those of `QualityRules()`.
        name: The step's name.

    Returns:
        The step.
    """
    return TextFilter(name, (rules or QualityRules()).reason)
