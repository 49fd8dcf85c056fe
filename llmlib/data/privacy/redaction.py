"""Text without its personal items, and where each character went."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmlib.data.corpora.document import Document
from llmlib.data.privacy.detect import find_personal
from llmlib.data.privacy.spans import KINDS, Span

MASKS = ("placeholder", "numbered", "shape")


@dataclass(frozen=True)
class OffsetMap:
    """Places in a text before and after stretches of it were replaced.

    Attributes:
        old: Start and stop of each stretch in the old text, by place, `[n, 2]`.
        new: Start and stop of what stands for it in the new text, `[n, 2]`.
    """

    old: np.ndarray
    new: np.ndarray

    def to_new(self, start: int, stop: int) -> tuple[int, int]:
        """Follow a stretch of the old text into the new one.

        Args:
            start: Place of its first character.
            stop: Place after its last.

        Returns:
            Start and stop in the new text, widened to whole replacements where the stretch cuts
            through one.
        """
        return _follow(self.old, self.new, start, stop)

    def to_old(self, start: int, stop: int) -> tuple[int, int]:
        """Follow a stretch of the new text back into the old one.

        Args:
            start: Place of its first character.
            stop: Place after its last.

        Returns:
            Start and stop in the old text, widened to whole items where the stretch cuts one.
        """
        return _follow(self.new, self.old, start, stop)


@dataclass(frozen=True)
class Redacted:
    """A text whose personal items are replaced.

    Attributes:
        text: The new text.
        spans: What was replaced, with places in the old text.
        offsets: From old places to new ones and back.
    """

    text: str
    spans: tuple[Span, ...]
    offsets: OffsetMap


def redact(text: str, spans: Iterable[Span], mask: str = "placeholder") -> Redacted:
    """Replace spans of a text and remember where everything went.

    Args:
        text: The text.
        spans: What to replace; they may not overlap.
        mask: What to write instead. `placeholder`: `<EMAIL>`. `numbered`: `<EMAIL_1>`, the same
            number wherever the same item stands in this text, so that it can still be told who
            wrote to whom. `shape`: letters become x or X and digits 0, so that the length and the
            format stay.

    Returns:
        The new text with its offsets.

    Raises:
        ValueError: If spans overlap or do not belong to this text, or the mask is unknown.

    Example:
        >>> text = "ada@example.org wrote."
        >>> done = redact(text, find_personal(text))
        >>> done.text, done.offsets.to_new(16, 21)
        ('<EMAIL> wrote.', (8, 13))
    """
    if mask not in MASKS:
        raise ValueError(f"unknown mask {mask!r}; choose from {MASKS}")
    ordered = sorted(spans)
    numbers: dict[tuple[str, str], int] = {}
    parts: list[str] = []
    old, new, end, length = [], [], 0, 0
    for span in ordered:
        if span.start < end or text[span.start : span.stop] != span.text:
            raise ValueError(f"{span} overlaps another or is not of this text: resolve_overlaps")
        instead = _instead(span, mask, numbers)
        parts += [text[end : span.start], instead]
        length += span.start - end
        old.append((span.start, span.stop))
        new.append((length, length + len(instead)))
        length, end = length + len(instead), span.stop
    parts.append(text[end:])
    offsets = OffsetMap(
        np.array(old, dtype=np.int64).reshape(-1, 2), np.array(new, dtype=np.int64).reshape(-1, 2)
    )
    return Redacted("".join(parts), tuple(ordered), offsets)


def redact_document(
    document: Document, kinds: Sequence[str] = KINDS, mask: str = "placeholder"
) -> Document:
    """Replace the personal items of a document.

    Args:
        document: The document.
        kinds: Which items; see `find_personal`.
        mask: What to write instead; see `redact`.

    Returns:
        The same document if there is nothing to replace; else a new one whose `meta["redacted"]`
        counts the items by kind.

    Example:
        >>> redact_document(Document(text="Ping 192.0.2.9", source="x")).meta
        {'redacted': {'ipv4': 1}}
    """
    spans = find_personal(document.text, kinds)
    if not spans:
        return document
    counts = {kind: sum(s.kind == kind for s in spans) for kind in KINDS}
    redacted = {kind: count for kind, count in counts.items() if count}
    text = redact(document.text, spans, mask).text
    return replace(document, text=text, meta={**document.meta, "redacted": redacted})


@dataclass(frozen=True)
class RedactStep:
    """The same as a step of a cleaning pipeline, which rewrites documents and drops none.

    Attributes:
        kinds: Which items to replace.
        mask: What to write instead; see `redact`.
        name: What the pipeline's report calls it.

    Example:
        >>> RedactStep(kinds=("email",)).apply(Document(text="a@example.org", source="x")).text
        '<EMAIL>'
    """

    kinds: tuple[str, ...] = KINDS
    mask: str = "placeholder"
    name: str = "personal items"

    def apply(self, document: Document) -> Document:
        """Replace the personal items of a document.

        Args:
            document: The document.

        Returns:
            The same object if there is nothing to replace.
        """
        return redact_document(document, self.kinds, self.mask)


def _instead(span: Span, mask: str, numbers: dict[tuple[str, str], int]) -> str:
    if mask == "shape":
        return "".join(
            "0" if c.isdigit() else "X" if c.isupper() else "x" if c.isalpha() else c
            for c in span.text
        )
    if mask == "placeholder":
        return f"<{span.kind.upper()}>"
    same_kind = sum(kind == span.kind for kind, _ in numbers)
    number = numbers.setdefault((span.kind, span.text), same_kind + 1)
    return f"<{span.kind.upper()}_{number}>"


def _follow(origin: np.ndarray, target: np.ndarray, start: int, stop: int) -> tuple[int, int]:
    return _moved(origin, target, start, 0), _moved(origin, target, stop, 1)


def _moved(origin: np.ndarray, target: np.ndarray, place: int, end: int) -> int:
    """Map a place between characters from one text to the other.

    Args:
        origin: The edits' places in the text that the place is of.
        target: Their places in the other.
        place: The place.
        end: Where a place inside an edit goes: to its start (0) or its stop (1).

    Returns:
        The place in the other text.
    """
    passed = int(np.searchsorted(origin[:, 1], place, side="right"))  # edits that end before it
    if passed < len(origin) and origin[passed, 0] < place:
        return int(target[passed, end])
    return place + (int(target[passed - 1, 1] - origin[passed - 1, 1]) if passed else 0)
