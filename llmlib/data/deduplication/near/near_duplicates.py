"""Near-duplicates of a corpus: shingles, MinHash, LSH, verification and union-find in one pass."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int64

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped, keep_or_drop
from llmlib.data.deduplication.exact import first_equal
from llmlib.data.deduplication.near.lsh import lsh_candidates, tune_bands
from llmlib.data.deduplication.near.minhash import minhash_signatures
from llmlib.data.deduplication.near.shingles import ShingleSets, jaccard, shingle_sets
from llmlib.data.deduplication.near.union_find import clusters
from llmlib.data.deduplication.window_hashes import mix

# Every candidate is verified, so a false one costs time only and a miss costs a duplicate.
_WEIGHTS = (0.01, 0.99)


def near_duplicate_pairs(
    sets: ShingleSets, threshold: float = 0.8, n_hashes: int = 128, seed: int = 0
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Find the pairs of documents whose Jaccard similarity is at least a threshold.

    LSH proposes, the exact similarity decides: no pair below the threshold is returned, and a pair
    of similarity s above it is missed with probability 1 - P(s), below 0.02 at the default
    threshold and falling fast (`candidate_probability`). Among documents with equal sets only the
    pairs with the first of them are returned.

    Returns:
        The two members of each pair, the smaller index first.

    Example:
        >>> words = [str(number) for number in range(40)]
        >>> texts = (" ".join(words), " ".join(words[1:]), "something else")
        >>> left, right = near_duplicate_pairs(shingle_sets(texts, n=3))
        >>> list(zip(left.tolist(), right.tolist()))
        [(0, 1)]

    References:
        Lee et al. (2022), Deduplicating Training Data Makes Language Models Better, section 4.2
        (NearDup).
    """
    # Equal sets have equal sums of hashes.
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mix(sets.hashes))])
    first = first_equal(sums[sets.bounds[1:]] - sums[sets.bounds[:-1]])
    copies = np.flatnonzero(first != np.arange(len(sets)))
    different = np.flatnonzero(first == np.arange(len(sets)))
    bands, rows = tune_bands(threshold, n_hashes, _WEIGHTS)
    signatures = minhash_signatures(sets, n_hashes, seed)[different]
    left, right = lsh_candidates(signatures, bands, rows)
    left = np.concatenate([different[left], first[copies]])
    right = np.concatenate([different[right], copies])
    similar = jaccard(sets, left, right) >= threshold
    return left[similar], right[similar]


def deduplicate_near(
    documents: Sequence[Document],
    threshold: float = 0.8,
    n_words: int = 5,
    n_hashes: int = 128,
    seed: int = 0,
    normalize: Callable[[str], str] | None = None,
) -> tuple[list[Document], list[Dropped]]:
    """Keep the first document of each cluster of near-duplicates.

    A cluster is what a chain of similar pairs connects, so its ends may differ more than the
    threshold allows a pair. Documents of fewer than `n_words` words count as similar only if they
    have the same words. Memory: 8 bytes a word and 4 `n_hashes` bytes a document beside the texts.

    Args:
        threshold: Smallest Jaccard similarity of near-duplicates, between 0 and 1.
        seed: The result depends on it only through pairs that are missed.
        normalize: Applied to each text before it is compared, such as `normalize_for_matching`; by
            default texts are compared as they are.

    Returns:
        The documents kept, in order and unchanged, and those dropped, with the source of the kept
        one in the reason.

    Example:
        >>> text = " ".join(f"word{number}" for number in range(50))
        >>> texts = (text, text + " more", "quite another text")
        >>> corpus = [Document(text=t, source=f"d{i}") for i, t in enumerate(texts)]
        >>> kept, dropped = deduplicate_near(corpus)
        >>> [document.source for document in kept], dropped[0].reason
        (['d0', 'd2'], 'near-duplicate of d0')
    """
    texts = (document.text for document in documents)
    sets = shingle_sets(map(normalize, texts) if normalize else texts, n_words)
    left, right = near_duplicate_pairs(sets, threshold, n_hashes, seed)
    names = clusters(len(documents), left, right).tolist()
    reasons = (
        None if index == name else f"near-duplicate of {documents[name].source}"
        for index, name in enumerate(names)
    )
    return keep_or_drop(zip(documents, reasons, strict=True))
