"""Scorers, benchmarks and judges."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.evaluation.bits import (
        TextScore,
        bits_per_byte,
        score_documents,
        score_documents_ngram,
        score_tokens,
        sliding_windows,
    )
    from llmlib.evaluation.compressors import primed_xz_bits_per_byte, xz_size
    from llmlib.evaluation.last_word import last_word_correct, split_last_word

__getattr__, __dir__, __all__ = lazy_face(__name__)
