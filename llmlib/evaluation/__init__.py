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
from llmlib.evaluation.last_word import last_word_correct, split_last_word

__all__ = [
    "TextScore",
    "bits_per_byte",
    "last_word_correct",
    "primed_xz_bits_per_byte",
    "score_documents",
    "score_documents_ngram",
    "score_tokens",
    "sliding_windows",
    "split_last_word",
    "xz_size",
]
