"""Personal and secret items in text: found by rules, scored on labels, replaced with offsets."""

from llmlib.data.privacy.checked_numbers import find_cards, find_ibans, iban_valid, luhn_valid
from llmlib.data.privacy.contacts import find_emails, find_ips, find_phones
from llmlib.data.privacy.detect import find_personal
from llmlib.data.privacy.keys import bits_per_character, find_keys
from llmlib.data.privacy.names import find_names
from llmlib.data.privacy.redact import (
    OffsetMap,
    Redacted,
    RedactStep,
    redact,
    redact_document,
)
from llmlib.data.privacy.scoring import (
    Labelled,
    SpanScore,
    labelled_texts,
    parse_marked,
    score_spans,
)
from llmlib.data.privacy.spans import KINDS, Span, resolve_overlaps

__all__ = [
    "KINDS",
    "Labelled",
    "OffsetMap",
    "RedactStep",
    "Redacted",
    "Span",
    "SpanScore",
    "bits_per_character",
    "find_cards",
    "find_emails",
    "find_ibans",
    "find_ips",
    "find_keys",
    "find_names",
    "find_personal",
    "find_phones",
    "iban_valid",
    "labelled_texts",
    "luhn_valid",
    "parse_marked",
    "redact",
    "redact_document",
    "resolve_overlaps",
    "score_spans",
]
