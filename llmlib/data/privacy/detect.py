"""What a text says about people, found by all rules together."""

from collections.abc import Callable, Collection, Iterator

from llmlib.data.privacy.addresses import find_addresses
from llmlib.data.privacy.checked_numbers import find_cards, find_ibans
from llmlib.data.privacy.contacts import find_emails, find_ips
from llmlib.data.privacy.keys import find_keys
from llmlib.data.privacy.names import find_names
from llmlib.data.privacy.phones import find_phones
from llmlib.data.privacy.spans import PERSONAL_KINDS, Span, resolve_overlaps

_FINDERS: tuple[tuple[set[str], Callable[[str], Iterator[Span]]], ...] = (
    ({"key"}, find_keys),
    ({"iban"}, find_ibans),
    ({"card"}, find_cards),
    ({"email"}, find_emails),
    ({"ipv4", "ipv6"}, find_ips),
    ({"phone"}, find_phones),
    ({"address"}, find_addresses),
    ({"name"}, find_names),
)


def find_personal(text: str, kinds: Collection[str] = PERSONAL_KINDS) -> list[Span]:
    """Find personal and secret items in a text, none overlapping another.

    All rules run whatever is asked for, so that a card number is not taken for a telephone number
    when cards are not wanted; only names, for which no number is taken, are skipped where they are
    not wanted.

    Args:
        kinds: Names are the least sure and the most useful to keep: a corpus without the names of
            authors and places knows less of the world.

    Raises:
        ValueError: If a kind is unknown.

    Example:
        >>> for span in find_personal("Maria Silva, maria@example.org, 192.0.2.44"):
        ...     print(span.start, span.stop, span.kind)
        0 11 name
        13 30 email
        32 42 ipv4

    References:
        Laurençon et al. (2022), The BigScience ROOTS Corpus, section 3.2 (rules for personal
        information before pre-training BLOOM).
    """
    if unknown := set(kinds) - set(PERSONAL_KINDS):
        raise ValueError(f"unknown kinds {sorted(unknown)}; choose from {PERSONAL_KINDS}")
    spans = [
        span
        for found, finder in _FINDERS
        if found != {"name"} or "name" in kinds
        for span in finder(text)
    ]
    return [span for span in resolve_overlaps(spans) if span.kind in kinds]
