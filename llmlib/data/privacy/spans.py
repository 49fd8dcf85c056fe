"""Stretches of text that say something about a person, and which to keep where they overlap."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# First those that a check digit or a fixed prefix proves, then those that only look the part.
PERSONAL_KINDS = ("key", "iban", "card", "email", "ipv6", "ipv4", "phone", "address", "name")


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of a text."""

    start: int
    stop: int
    """Place after its last."""
    kind: str
    """What it is, one of `PERSONAL_KINDS`."""
    text: str


def resolve_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Keep spans that do not overlap: the surest kind first, then the longest, then the first.

    Example:
        >>> card = Span(0, 16, "card", "4111111111111111")
        >>> phone = Span(0, 10, "phone", "4111111111")
        >>> [span.kind for span in resolve_overlaps([phone, card])]
        ['card']
    """
    ranked = sorted(
        set(spans), key=lambda s: (PERSONAL_KINDS.index(s.kind), s.start - s.stop, s.start, s.text)
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


def spans_of(kind: str, matches: Iterable[re.Match[str]], group: int = 0) -> Iterator[Span]:
    """Make spans of one kind from what a pattern or a group of it matched."""
    for match in matches:
        yield Span(*match.span(group), kind, match[group])
