"""MinHash: a short signature whose agreement estimates the Jaccard similarity of two sets."""

import numpy as np
from jaxtyping import Float64, Int, UInt32

from llmlib.data.deduplication.near.shingles import ShingleSets

_CHUNK = 2048  # shingles hashed at once: 128 hashes of them fill 1 MiB


def minhash_signatures(
    sets: ShingleSets, n_hashes: int = 128, seed: int = 0
) -> UInt32[np.ndarray, "documents hashes"]:
    """Sign each set by its smallest element under each of several hash functions.

    With h_k(x) = a_k x + b_k mod 2^32, a_k odd, the signature of a set A is s_k = min_{x in A}
    h_k(x). Two sets agree in component k when the smallest element of their union lies in both,
    which happens with probability J(A, B) if h_k orders the elements at random. A function of this
    form is one-to-one, so it never makes two elements equal, but it is only nearly random in the
    order; that the shingles' hashes are well mixed before makes up for it (the tests compare the
    agreement with J).

    Args:
        sets: The shingle sets; the low 32 bits of their hashes are used.
        n_hashes: The estimate of J has a standard deviation of
            sqrt(J (1 - J) / n_hashes).
        seed: Which hash functions; signatures compare only under the same ones.

    Returns:
        The signatures; an empty set's is all 2^32 - 1.

    Raises:
        ValueError: If `n_hashes` is below 1.

    Example:
        >>> from llmlib.data.deduplication.near.shingles import shingle_sets
        >>> a, b = minhash_signatures(shingle_sets(["to be or not", "not or be to"], n=1))
        >>> bool((a == b).all())
        True

    References:
        Broder (1997), On the Resemblance and Containment of Documents; Broder et al. (2000),
        Min-Wise Independent Permutations, section 4 (linear functions).
    """
    if n_hashes < 1:
        raise ValueError(f"a signature needs at least one hash function, not {n_hashes}")
    rng = np.random.default_rng(seed)
    factor, shift = rng.integers(0, 1 << 32, (2, n_hashes, 1), dtype=np.uint32)
    factor |= np.uint32(1)
    elements = (sets.hashes & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    filled = np.flatnonzero(np.diff(sets.bounds))
    starts = sets.bounds[filled]
    smallest = np.full((n_hashes, len(filled)), np.iinfo(np.uint32).max, np.uint32)
    buffer = np.empty((n_hashes, _CHUNK), np.uint32)
    for begin in range(0, len(elements), _CHUNK):
        chunk = elements[begin : begin + _CHUNK]
        hashed = buffer[:, : len(chunk)]
        np.multiply(factor, chunk, out=hashed)
        hashed += shift
        # The sets that lie in this chunk: the first may have begun before, the last may go on.
        first = np.searchsorted(starts, begin, side="right") - 1
        last = np.searchsorted(starts, begin + len(chunk))
        parts = np.minimum.reduceat(hashed, np.maximum(starts[first:last] - begin, 0), axis=1)
        np.minimum(smallest[:, first:last], parts, out=smallest[:, first:last])
    signatures = np.full((len(sets), n_hashes), np.iinfo(np.uint32).max, np.uint32)
    signatures[filled] = smallest.T
    return signatures


def estimated_jaccard(
    signatures: UInt32[np.ndarray, "documents hashes"],
    left: Int[np.ndarray, " pairs"],
    right: Int[np.ndarray, " pairs"],
) -> Float64[np.ndarray, " pairs"]:
    """Estimate the Jaccard similarity of pairs by the share of components that agree.

    Example:
        >>> signatures = np.array([[1, 2, 3, 4], [1, 2, 3, 9]], np.uint32)
        >>> estimated_jaccard(signatures, np.array([0]), np.array([1])).tolist()
        [0.75]
    """
    return (signatures[left] == signatures[right]).mean(axis=1)
