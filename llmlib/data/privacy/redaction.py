"""Text without its personal items, and where each character went."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from llmlib.data.corpora.document import Document
from llmlib.data.privacy.detect import find_personal
from llmlib.data.privacy.spans import PERSONAL_KINDS, Span

MASKS = ("placeholder", "numbered", "shape")


@dataclass(frozen=True)
class OffsetMap:
    """Places in a text before and after stretches of it were replaced."""

    old: np.ndarray
    """Start and stop of each stretch in the old text, by place, `[n, 2]`."""
    new: np.ndarray
    """Start and stop of what stands for it in the new text, `[n, 2]`."""

    def to_new(self, start: int, stop: int) -> tuple[int, int]:
        """Follow a stretch into the new text, widened to the whole replacements that it cuts."""
        return _follow(self.old, self.new, start, stop)

    def to_old(self, start: int, stop: int) -> tuple[int, int]:
        """Follow a stretch back into the old text, widened to the whole items that it cuts."""
        return _follow(self.new, self.old, start, stop)


@dataclass(frozen=True)
class Redacted:
    """A text whose personal items are replaced."""

    text: str
    spans: tuple[Span, ...]
    """What was replaced, with places in the old text."""
    offsets: OffsetMap


def redact(text: str, spans: Iterable[Span], mask: str = "placeholder") -> Redacted:
    """Replace spans of a text and remember where everything went.

    Args:
        mask: What to write instead. `placeholder`: `<EMAIL>`. `numbered`: `<EMAIL_1>`, the same
            number wherever the same item stands in this text, so that it can still be told who
            wrote to whom. `shape`: letters become x or X and digits 0, so that the length and the
            format stay.

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
    document: Document, kinds: Sequence[str] = PERSONAL_KINDS, mask: str = "placeholder"
) -> Document:
    """Replace the personal items of a document, the same object if it has none.

    `meta["redacted"]` counts the items by kind. For `kinds` see `find_personal`, for `mask`
    `redact`.

    Example:
        >>> redact_document(Document(text="Ping 192.0.2.9", source="x")).meta
        {'redacted': {'ipv4': 1}}
    """
    spans = find_personal(document.text, kinds)
    if not spans:
        return document
    counts = {kind: sum(s.kind == kind for s in spans) for kind in PERSONAL_KINDS}
    redacted = {kind: count for kind, count in counts.items() if count}
    text = redact(document.text, spans, mask).text
    return replace(document, text=text, meta={**document.meta, "redacted": redacted})


@dataclass(frozen=True)
class RedactStep:
    """The same as a step of a cleaning pipeline, which rewrites documents and drops none.

    Example:
        >>> RedactStep(kinds=("email",)).apply(Document(text="a@example.org", source="x")).text
        '<EMAIL>'
    """

    kinds: tuple[str, ...] = PERSONAL_KINDS
    mask: str = "placeholder"
    name: str = "personal items"

    def apply(self, document: Document) -> Document:
        """Return the document redacted, the same object if there is nothing to replace."""
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
    """Map a place; inside an edit it goes to the edit's start (0) or stop (1)."""
    passed = int(np.searchsorted(origin[:, 1], place, side="right"))  # edits that end before it
    if passed < len(origin) and origin[passed, 0] < place:
        return int(target[passed, end])
    return place + (int(target[passed - 1, 1] - origin[passed - 1, 1]) if passed else 0)
