"""Deduplication: sentences, documents, near-duplicates, substrings; leaked evaluation text."""

from llmlib.data.deduplication.exact import (
    Normalization,
    deduplicate_exact,
    matching_digest,
    normalize_for_matching,
)
from llmlib.data.deduplication.union_find import clusters

__all__ = [
    "Normalization",
    "clusters",
    "deduplicate_exact",
    "matching_digest",
    "normalize_for_matching",
]
