"""All pairs of similar sets without sampling, as the truth that LSH is measured against."""

import math

import numpy as np
from jaxtyping import Int64

from llmlib.data.deduplication.near.lsh import equal_pairs
from llmlib.data.deduplication.near.shingles import ShingleSets, jaccard


def similar_pairs(
    sets: ShingleSets, threshold: float
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    r"""Find every pair of sets whose Jaccard similarity is at least a threshold.

    Prefix filtering: sort all elements from the rarest to the commonest. If J(A, B) ≥ t, then A
    and B share at least $t |A|$ elements, so they cannot differ in all of the first
    $|A| - \lceil t |A| \rceil + 1$. Only pairs that share such a rare element are compared. The
    cost grows with the square of the number of sets that share one: with many copies of a
    document, take them out first.

    Returns:
        The two members of each pair, the smaller index first, in ascending order.

    Raises:
        ValueError: If the threshold is out of range.

    Example:
        >>> from llmlib.data.deduplication.near.shingles import shingle_sets
        >>> left, right = similar_pairs(shingle_sets(["a b c d", "a b c", "e"], n=1), 0.75)
        >>> left.tolist(), right.tolist()
        ([0], [1])

    References:
        Chaudhuri, Ganti and Kaushik (2006), A Primitive Operator for Similarity Joins; Bayardo, Ma
        and Srikant (2007), Scaling Up All Pairs Similarity Search.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold} must be above 0 and at most 1")
    sizes = np.diff(sets.bounds)
    owner = np.repeat(np.arange(len(sets)), sizes)
    _, element, counts = np.unique(sets.hashes, return_inverse=True, return_counts=True)
    order = np.lexsort((element, counts[element], owner))  # within a set the rarest first
    place = np.arange(len(owner)) - np.repeat(sets.bounds[:-1], sizes)
    # A hair below t|A|, so that rounding never shortens a prefix.
    prefix = np.array([size - math.ceil(threshold * size - 1e-9) + 1 for size in sizes.tolist()])
    chosen = order[place < np.repeat(prefix, sizes)] if len(order) else order
    empty = np.flatnonzero(sizes == 0)  # equal to one another
    found = [empty[a] * len(sets) + empty[b] for a, b in [np.triu_indices(len(empty), 1)]]
    for a, b in equal_pairs(element[chosen]):
        first, second = owner[chosen[a]], owner[chosen[b]]
        found.append(np.minimum(first, second) * len(sets) + np.maximum(first, second))
    keys = np.unique(np.concatenate(found)).astype(np.int64)
    left, right = keys // max(1, len(sets)), keys % max(1, len(sets))
    similar = jaccard(sets, left, right) >= threshold
    return left[similar], right[similar]
