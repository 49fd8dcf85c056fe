"""Near-duplicates of a corpus: shingles, MinHash, LSH, verification and union-find in one pass."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Int64

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped, keep_or_drop
from llmlib.data.deduplication.exact import first_equal
from llmlib.data.deduplication.near.lsh import band_keys, equal_pairs, lsh_candidates, tune_bands
from llmlib.data.deduplication.near.minhash import minhash_signatures
from llmlib.data.deduplication.near.shingles import (
    ShingleSets,
    gather_sets,
    jaccard,
    shingle_sets,
)
from llmlib.data.deduplication.near.union_find import clusters
from llmlib.data.deduplication.window_hashes import mix

# Every candidate is verified, so a false one costs time only and a miss costs a duplicate.
_WEIGHTS = (0.01, 0.99)
_FEW = 16  # documents of a bucket of which all pairs are compared, together with other buckets


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
    first = _first_equal_set(sets)
    copies = np.flatnonzero(first != np.arange(len(sets)))
    different = np.flatnonzero(first == np.arange(len(sets)))
    bands, rows = tune_bands(threshold, n_hashes, _WEIGHTS)
    signatures = minhash_signatures(sets, n_hashes, seed)[different]
    left, right = lsh_candidates(signatures, bands, rows)
    left = np.concatenate([different[left], first[copies]])
    right = np.concatenate([different[right], copies])
    similar = jaccard(sets, left, right) >= threshold
    return left[similar], right[similar]


def near_duplicate_clusters(
    sets: ShingleSets, threshold: float = 0.8, n_hashes: int = 128, seed: int = 0
) -> Int64[np.ndarray, " documents"]:
    """Name the cluster of each document by its first: what chains of similar pairs connect.

    The clusters are those of `near_duplicate_pairs`, without all pairs of a cluster: a document is
    compared only with those of its bucket that no chain connects with it yet. A thousand pages of
    one template so cost a thousand comparisons, unless the pages are as alike as they can be
    without being near-duplicates: such pages have all to be compared.

    Example:
        >>> words = [str(number) for number in range(40)]
        >>> texts = (" ".join(words), "something else", " ".join(words[1:]))
        >>> near_duplicate_clusters(shingle_sets(texts, n=3)).tolist()
        [0, 1, 0]
    """
    names = _first_equal_set(sets)
    different = np.flatnonzero(names == np.arange(len(sets)))
    bands, rows = tune_bands(threshold, n_hashes, _WEIGHTS)
    signatures = minhash_signatures(sets, n_hashes, seed)[different]
    every = np.arange(len(sets))
    for keys in band_keys(signatures, bands, rows):
        _, bucket, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        few = np.flatnonzero(sizes[bucket] <= _FEW)
        links = [(different[few[a]], different[few[b]]) for a, b in equal_pairs(keys[few])]
        links = [_similar(sets, left, right, names, threshold) for left, right in links]
        ends = np.cumsum(sizes)
        by_bucket = different[np.argsort(bucket, kind="stable")]
        for number in np.flatnonzero(sizes > _FEW):
            members = by_bucket[ends[number] - sizes[number] : ends[number]]
            links.append(_links_of_bucket(sets, members, names[members], threshold))
        left, right = (np.concatenate(side) for side in zip((every, names), *links, strict=True))
        names = clusters(len(sets), left, right)
    return names


def _similar(
    sets: ShingleSets, left: np.ndarray, right: np.ndarray, names: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of pairs that no chain connects yet those that are similar."""
    apart = names[left] != names[right]
    left, right = left[apart], right[apart]
    similar = jaccard(sets, left, right) >= threshold
    return left[similar], right[similar]


def _links_of_bucket(
    sets: ShingleSets, members: np.ndarray, names: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that connect the clusters of a bucket wherever some pair between them is similar.

    One document at a time is compared with all, always one of the smallest cluster left: the first
    takes its whole cluster in, and of what is left each stray settles its own case.
    """
    sizes = np.diff(sets.bounds)[members]
    owner = np.repeat(np.arange(len(members)), sizes)
    _, elements, counts = np.unique(
        gather_sets(sets, members), return_inverse=True, return_counts=True
    )
    # What one document has alone is never shared, and what all have always: a template's pages have
    # little else.
    in_all = int((counts == len(members)).sum())
    some = (counts > 1) & (counts < len(members))
    owner, elements = owner[some[elements]], elements[some[elements]]
    edges = np.searchsorted(owner, np.arange(len(members) + 1))
    held = np.zeros(len(counts), bool)
    waiting = np.ones(len(members), bool)
    links = [(members[:0], members[:0])]
    while True:
        left, numbers = np.unique(names[waiting], return_counts=True)
        if len(left) < 2:
            first, second = (np.concatenate(side) for side in zip(*links, strict=True))
            return first, second
        name = left[numbers.argmin()]
        pivot = int(np.flatnonzero(waiting & (names == name))[0])
        waiting[pivot] = False
        own = elements[edges[pivot] : edges[pivot + 1]]
        held[own] = True
        shared = in_all + np.bincount(owner[held[elements]], minlength=len(members))
        held[own] = False
        jaccards = shared / np.maximum(sizes + sizes[pivot] - shared, 1)
        similar = waiting & (names != name) & (jaccards >= threshold)
        links.append((np.full(similar.sum(), members[pivot]), members[similar]))
        joined = np.append(names[similar], name)
        names = np.where(np.isin(names, joined), joined.min(), names)


def _first_equal_set(sets: ShingleSets) -> Int64[np.ndarray, " documents"]:
    """For each set the first that equals it: equal sets have equal sums of hashes."""
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mix(sets.hashes))])
    return first_equal(sums[sets.bounds[1:]] - sums[sets.bounds[:-1]])


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
    names = near_duplicate_clusters(sets, threshold, n_hashes, seed).tolist()
    reasons = (
        None if index == name else f"near-duplicate of {documents[name].source}"
        for index, name in enumerate(names)
    )
    return keep_or_drop(zip(documents, reasons, strict=True))
