"""Deduplication: sentences, documents, near-duplicates, substrings; leaked evaluation text."""

from llmlib.data.deduplication.decontamination import (
    EvaluationIndex,
    Leak,
    decontaminate,
    find_leaks,
)
from llmlib.data.deduplication.exact import (
    Normalization,
    deduplicate_exact,
    matching_digest,
    normalize_for_matching,
)
from llmlib.data.deduplication.exact_join import similar_pairs
from llmlib.data.deduplication.fingerprints import hamming_distance, hamming_pairs, simhash
from llmlib.data.deduplication.leak_cuts import cut_leaks
from llmlib.data.deduplication.lsh import candidate_probability, lsh_candidates, tune_bands
from llmlib.data.deduplication.minhash import estimated_jaccard, minhash_signatures
from llmlib.data.deduplication.near import deduplicate_near, near_duplicate_pairs
from llmlib.data.deduplication.passages import (
    Cut,
    deduplicate_passages,
    drop_repetitive_sentences,
    line_spans,
    repetition,
    sentence_spans,
)
from llmlib.data.deduplication.shingles import ShingleSets, jaccard, shingle_sets
from llmlib.data.deduplication.substrings import remove_repeated_substrings, repeated_symbols
from llmlib.data.deduplication.union_find import clusters

__all__ = [
    "Cut",
    "EvaluationIndex",
    "Leak",
    "Normalization",
    "ShingleSets",
    "candidate_probability",
    "clusters",
    "cut_leaks",
    "decontaminate",
    "deduplicate_exact",
    "deduplicate_near",
    "deduplicate_passages",
    "drop_repetitive_sentences",
    "estimated_jaccard",
    "find_leaks",
    "hamming_distance",
    "hamming_pairs",
    "jaccard",
    "line_spans",
    "lsh_candidates",
    "matching_digest",
    "minhash_signatures",
    "near_duplicate_pairs",
    "normalize_for_matching",
    "remove_repeated_substrings",
    "repeated_symbols",
    "repetition",
    "sentence_spans",
    "shingle_sets",
    "similar_pairs",
    "simhash",
    "tune_bands",
]
