"""Deduplication: sentences, documents, near-duplicates, substrings; leaked evaluation text."""

from typing import TYPE_CHECKING

from llmlib.core.lazy import lazy_face

if TYPE_CHECKING:
    from llmlib.data.deduplication.contamination.decontamination import (
        EvaluationIndex,
        decontaminate,
        find_leaks,
    )
    from llmlib.data.deduplication.contamination.leak_cuts import cut_leaks
    from llmlib.data.deduplication.exact import (
        Normalization,
        deduplicate_exact,
        normalize_for_matching,
    )
    from llmlib.data.deduplication.near.exact_join import similar_pairs
    from llmlib.data.deduplication.near.lsh import candidate_probability, lsh_candidates, tune_bands
    from llmlib.data.deduplication.near.minhash import estimated_jaccard, minhash_signatures
    from llmlib.data.deduplication.near.near_duplicates import (
        deduplicate_near,
        near_duplicate_pairs,
    )
    from llmlib.data.deduplication.near.shingles import jaccard, shingle_sets
    from llmlib.data.deduplication.near.simhash import hamming_pairs, simhash
    from llmlib.data.deduplication.near.union_find import clusters
    from llmlib.data.deduplication.passages import (
        deduplicate_passages,
        drop_repetitive_sentences,
        repetition,
    )
    from llmlib.data.deduplication.substrings import (
        remove_repeated_substrings,
        repeated_symbols,
    )

__getattr__, __dir__, __all__ = lazy_face(__name__)
