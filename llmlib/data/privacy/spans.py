"""Stretches of text that say something about a person, and which to keep where they overlap."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# First those that a check digit or a fixed prefix proves, then those that only look the part.
KINDS = ("key", "iban", "card", "email", "ipv6", "ipv4", "phone", "name")


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a text.

    Attributes:
        start: Place of its first character.
        stop: Place after its last.
        kind: What it is, one of `KINDS`.
        text: The characters themselves.
    """

    start: int
    stop: int
    kind: str
    text: str


def resolve_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Keep spans that do not overlap: the surest kind first, then the longest, then the first.

    Args:
        spans: Spans of one text, in any order.

    Returns:
        The spans kept, by place.

    Example:
        >>> card = Span(0, 16, "card", "4111111111111111")
        >>> phone = Span(0, 10, "phone", "4111111111")
        >>> [span.kind for span in resolve_overlaps([phone, card])]
        ['card']
    """
    ranked = sorted(
        set(spans), key=lambda s: (KINDS.index(s.kind), s.start - s.stop, s.start, s.text)
    )
    kept: list[Span] = []
    for span in ranked:
        place = bisect_left(kept, span)
        before = kept[place - 1] if place else None
        after = kept[place] if place < len(kept) else None
        if (before is None or before.stop <= span.start) and (
            after is None or span.stop <= after.start
        ):
            kept.insert(place, span)
    return kept


def spans_of(kind: str, text: str, places: Iterable[tuple[int, int]]) -> Iterator[Span]:
    """Make spans of one kind from places in a text.

    Args:
        kind: One of `KINDS`.
        text: The text.
        places: Where each begins and ends.

    Yields:
        One span for each place.
    """
    for start, stop in places:
        yield Span(start, stop, kind, text[start:stop])
