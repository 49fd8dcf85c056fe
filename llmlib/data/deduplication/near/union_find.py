"""Connected components of pairs, by union-find on an array."""

import numpy as np
from jaxtyping import Int


def clusters(
    n_items: int, left: Int[np.ndarray, " pairs"], right: Int[np.ndarray, " pairs"]
) -> Int[np.ndarray, " items"]:
    """Name the component of each item by its smallest member.

    All pairs are united at once: each root is hooked under the smallest root it is paired with,
    then paths are halved until every item points at its root, and so on until no pair joins two
    components. The answer does not depend on the order of the pairs. A round takes away every root
    that is paired with a smaller one, so a handful of rounds is enough for millions of pairs.

    Returns:
        For each item the smallest item that a chain of pairs leads to; itself if it has no pair.

    Raises:
        ValueError: If a pair names an item out of range.

    Example:
        >>> clusters(6, np.array([4, 1]), np.array([1, 3])).tolist()
        [0, 1, 2, 1, 1, 5]

    References:
        Galler and Fischer (1964), An Improved Equivalence Algorithm; Shiloach and Vishkin (1982),
        An O(log n) Parallel Connectivity Algorithm (hooking and pointer jumping).
    """
    left, right = np.asarray(left, np.int64), np.asarray(right, np.int64)
    ends = np.concatenate([left, right])
    if ends.size and (ends.min() < 0 or ends.max() >= n_items):
        raise ValueError(f"pairs name items 0 to {n_items - 1}, not {ends.min()} to {ends.max()}")
    parent = np.arange(n_items)
    while True:
        a, b = parent[left], parent[right]
        apart = a != b
        if not apart.any():
            return parent
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        # The smallest neighbour, not any: the leaves of a star then meet in two rounds.
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            grandparent = parent[parent]
            if np.array_equal(grandparent, parent):
                break
            parent = grandparent
