"""SimHash: 64-bit fingerprints that differ in few bits for similar documents.

MinHash keeps 128 numbers a document and estimates the Jaccard similarity; SimHash keeps 8 bytes and
estimates an angle. It suits billions of documents and copies that are nearly exact.
"""

import itertools

import numpy as np
from jaxtyping import Int, Int64, UInt64

from llmlib.data.deduplication.near.lsh import equal_pairs
from llmlib.data.deduplication.near.shingles import ShingleSets
from llmlib.data.deduplication.window_hashes import mix

BITS = 64
_CHUNK = 1 << 14  # shingles whose bits are counted at once


def simhash(sets: ShingleSets, seed: int = 0) -> UInt64[np.ndarray, " documents"]:
    """Fingerprint each set by the majority of its members in each of 64 random bits.

    Bit k is set if more than half of the members' hashes have bit k set. Each bit is the side of a
    random hyperplane on which the document's indicator vector lies, so two documents at an angle
    theta differ in about 64 theta / pi bits; for sets, cos(theta) is the number of shared members
    over the geometric mean of the sizes.

    An empty set's fingerprint is 0. Fingerprints compare only under the same seed.

    Example:
        >>> from llmlib.data.deduplication.near.shingles import shingle_sets
        >>> words = [str(number) for number in range(100)]
        >>> texts = (" ".join(words), " ".join(words[:99]), "quite another text")
        >>> a, b, c = simhash(shingle_sets(texts, n=2))
        >>> int(np.bitwise_count(a ^ b)) < 12 < int(np.bitwise_count(a ^ c))
        True

    References:
        Charikar (2002), Similarity Estimation Techniques from Rounding Algorithms, section 3;
        Manku, Jain and Das Sarma (2007), Detecting Near-Duplicates for Web Crawling, section 2.
    """
    sizes = np.diff(sets.bounds)
    votes = np.zeros((len(sets) + 1, BITS), np.int64)
    shifted = mix(mix(np.array([seed + 1], np.uint64)) ^ sets.hashes)
    owner = np.repeat(np.arange(len(sets)), sizes)
    for begin in range(0, len(shifted), _CHUNK):
        chunk = shifted[begin : begin + _CHUNK]
        bits = np.unpackbits(chunk[:, None].view(np.uint8), axis=1, bitorder="little")
        own = owner[begin : begin + _CHUNK]
        heads = np.flatnonzero(np.diff(own, prepend=-1))
        votes[own[heads]] += np.add.reduceat(bits, heads, axis=0, dtype=np.int64)
    majority = 2 * votes[:-1] > sizes[:, None]
    return np.packbits(majority, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)


def hamming_distance(
    fingerprints: UInt64[np.ndarray, " documents"],
    left: Int[np.ndarray, " pairs"],
    right: Int[np.ndarray, " pairs"],
) -> Int64[np.ndarray, " pairs"]:
    """Count the bits in which pairs of fingerprints differ.

    Example:
        >>> prints = np.array([0b1011, 0b0010], np.uint64)
        >>> hamming_distance(prints, np.array([0]), np.array([1])).tolist()
        [2]
    """
    return np.bitwise_count(fingerprints[left] ^ fingerprints[right]).astype(np.int64)


def hamming_pairs(
    fingerprints: UInt64[np.ndarray, " documents"], max_distance: int = 3, spare: int = 1
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Find every pair of fingerprints that differ in at most `max_distance` bits.

    Cut the 64 bits into d + s blocks, d the distance. Two fingerprints that differ in at most d
    bits agree in some s whole blocks. So for each choice of s blocks, only documents that agree in
    all of them are compared: a table sorted by those blocks brings them together. The result is
    exact.

    Args:
        spare: Blocks s that must agree, at least 1: more of them make more tables (the choices of
            s blocks out of d + s) with smaller groups, about n / 2^(64 s / (d + s)) each.

    Returns:
        The two members of each pair, the smaller index first, in ascending order.

    Raises:
        ValueError: If the distance or the number of blocks is out of range.

    Example:
        >>> prints = np.array([0, 7, 1 << 63, 0b11111], np.uint64)
        >>> left, right = hamming_pairs(prints, max_distance=3)
        >>> list(zip(left.tolist(), right.tolist()))
        [(0, 1), (0, 2), (1, 3)]

    References:
        Manku, Jain and Das Sarma (2007), section 3 (sorted tables of permuted fingerprints).
    """
    if not 0 <= max_distance <= 32:
        raise ValueError(f"max_distance={max_distance} must be 0 to 32 bits")
    if not 1 <= spare <= BITS - max_distance:
        raise ValueError(f"spare={spare} must be between 1 and {BITS - max_distance} blocks")
    n = len(fingerprints)
    edges = np.linspace(0, BITS, max_distance + spare + 1).astype(int).tolist()
    masks = [((1 << high) - 1) ^ ((1 << low) - 1) for low, high in itertools.pairwise(edges)]
    found = [np.empty(0, np.int64)]
    for chosen in itertools.combinations(masks, spare):
        keys = fingerprints & np.uint64(sum(chosen))
        for a, b in equal_pairs(keys):
            near = hamming_distance(fingerprints, a, b) <= max_distance
            found.append(np.minimum(a, b)[near] * n + np.maximum(a, b)[near])
    pairs = np.unique(np.concatenate(found))
    return pairs // max(1, n), pairs % max(1, n)
