"""Personal and secret items in text: found by rules, scored on labels, replaced with offsets."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.privacy.checked_numbers import find_cards, luhn_valid
    from llmlib.data.privacy.detect import find_personal
    from llmlib.data.privacy.redaction import redact, redact_document
    from llmlib.data.privacy.scoring import labelled_texts, score_spans
    from llmlib.data.privacy.spans import Span

__getattr__, __dir__, __all__ = lazy_face(__name__)
