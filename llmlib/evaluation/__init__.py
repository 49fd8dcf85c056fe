"""Scorers, benchmarks and judges."""

from llmlib.evaluation.bits import (
    TextScore,
    bits_per_byte,
    score_documents,
    score_documents_ngram,
    score_tokens,
    sliding_windows,
)
from llmlib.evaluation.compressors import primed_xz_bits_per_byte, xz_size

__all__ = [
    "TextScore",
    "bits_per_byte",
    "primed_xz_bits_per_byte",
    "score_documents",
    "score_documents_ngram",
    "score_tokens",
    "sliding_windows",
    "xz_size",
]
