"""A document as the set of its shingles: all runs of n words, or of n characters."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int, Int64, UInt64

from llmlib.data.corpora.document import text_blocks
from llmlib.data.deduplication.window_hashes import (
    HASHED_CHARACTERS,
    HASHED_DOCUMENTS,
    hashed_characters,
    hashed_words,
    ngram_hashes,
)

# Hashes keep 52 bits, so that the index of a document (or of a pair) within a block fits beside
# them in 64 bits and one sort serves the whole block.
_INDEX_BITS = 12
_HASH_BITS = np.uint64(64 - _INDEX_BITS)
assert 1 << _INDEX_BITS == HASHED_DOCUMENTS


@dataclass(frozen=True, kw_only=True)
class ShingleSets:
    """The shingle sets of a corpus; 8 bytes a shingle."""

    hashes: UInt64[np.ndarray, " shingles"]
    """52-bit hashes, ascending and different within a document."""
    bounds: Int64[np.ndarray, " documents_and_end"]
    """Document d has the hashes `bounds[d]` to `bounds[d + 1]`."""

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, document: int) -> np.ndarray:
        """One document's set, as ascending hashes."""
        return self.hashes[self.bounds[document] : self.bounds[document + 1]]


def shingle_sets(
    texts: Iterable[str], n: int = 5, unit: Literal["word", "character"] = "word"
) -> ShingleSets:
    """Hash the shingles of each text.

    Words are those of `words_of`. A text shorter than n is one shingle; a text without a
    word has none.

    Args:
        texts: The texts, read lazily in blocks of about 260,000 characters.
        n: Words or characters in a shingle, at least 1.

    Example:
        >>> sets = shingle_sets(["a b c a b", "b c", ""], n=2)
        >>> [len(sets[d]) for d in range(3)], bool(np.isin(sets[1], sets[0])[0])
        ([3, 1, 0], True)

    References:
        Broder (1997), On the Resemblance and Containment of Documents, section 2.
    """
    hashes, sizes = [], []
    for block in text_blocks(texts, HASHED_CHARACTERS, HASHED_DOCUMENTS):
        words = hashed_words(block) if unit == "word" else hashed_characters(block)
        grams, first_word = ngram_hashes(words, n)
        owner = np.repeat(np.arange(len(block)), np.diff(words.bounds))[first_word]
        unique, owner = _sorted_unique(grams >> np.uint64(_INDEX_BITS), owner)
        hashes.append(unique)
        sizes.append(np.bincount(owner, minlength=len(block)))
    return ShingleSets(
        hashes=np.concatenate([np.empty(0, np.uint64), *hashes]),
        bounds=np.concatenate([[0], np.cumsum(np.concatenate([np.empty(0, np.int64), *sizes]))]),
    )


def jaccard(
    sets: ShingleSets, left: Int[np.ndarray, " pairs"], right: Int[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    r"""Jaccard similarity of pairs of documents, $|A \cap B| / |A \cup B|$; 1 of two empty sets.

    Exact up to the chance that two different shingles of a pair share a 52-bit hash, about 10^-12
    for documents of 50 shingles.

    Example:
        >>> sets = shingle_sets(["a b c", "b c d", "x"], n=1)
        >>> jaccard(sets, np.array([0, 0]), np.array([1, 2])).tolist()
        [0.5, 0.0]
    """
    sizes = np.diff(sets.bounds)
    total = sizes[left] + sizes[right]
    shared = np.zeros(len(left), np.int64)
    for start in range(0, len(left), HASHED_DOCUMENTS):
        block = slice(start, start + HASHED_DOCUMENTS)
        members = np.concatenate([gather_sets(sets, left[block]), gather_sets(sets, right[block])])
        index = np.arange(len(left[block]))
        pair = np.concatenate(
            [np.repeat(index, sizes[left[block]]), np.repeat(index, sizes[right[block]])]
        )
        keys = np.sort(members | (pair.astype(np.uint64) << _HASH_BITS))
        twice = keys[1:][keys[1:] == keys[:-1]]  # in both sets of its pair
        shared[block] = np.bincount((twice >> _HASH_BITS).astype(np.int64), minlength=len(index))
    return np.divide(shared, total - shared, out=np.ones(len(left)), where=total > 0)


def gather_sets(
    sets: ShingleSets, documents: Int[np.ndarray, " documents"]
) -> UInt64[np.ndarray, " shingles"]:
    """Put the sets of some documents one after another."""
    starts = sets.bounds[documents]
    sizes = sets.bounds[documents + 1] - starts
    ends = np.cumsum(sizes)
    return sets.hashes[np.arange(sizes.sum()) + np.repeat(starts - (ends - sizes), sizes)]


def _sorted_unique(hashes: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different hashes of each owner, ascending, and the owner of each."""
    keys = np.sort(hashes | (owner.astype(np.uint64) << _HASH_BITS))
    new = np.ones(len(keys), bool)
    new[1:] = keys[1:] != keys[:-1]
    keys = keys[new]
    return keys & ((np.uint64(1) << _HASH_BITS) - np.uint64(1)), (keys >> _HASH_BITS).astype(
        np.int64
    )
