"""Deduplication: sentences, documents, near-duplicates, substrings; leaked evaluation text."""

from llmlib.data.deduplication.exact import (
    Normalization,
    deduplicate_exact,
    matching_digest,
    normalize_for_matching,
)
from llmlib.data.deduplication.exact_join import similar_pairs
from llmlib.data.deduplication.lsh import candidate_probability, lsh_candidates, tune_bands
from llmlib.data.deduplication.minhash import estimated_jaccard, minhash_signatures
from llmlib.data.deduplication.near import deduplicate_near, near_duplicate_pairs
from llmlib.data.deduplication.shingles import ShingleSets, jaccard, shingle_sets
from llmlib.data.deduplication.union_find import clusters

__all__ = [
    "Normalization",
    "ShingleSets",
    "candidate_probability",
    "clusters",
    "deduplicate_exact",
    "deduplicate_near",
    "estimated_jaccard",
    "jaccard",
    "lsh_candidates",
    "matching_digest",
    "minhash_signatures",
    "near_duplicate_pairs",
    "normalize_for_matching",
    "shingle_sets",
    "similar_pairs",
    "tune_bands",
]
