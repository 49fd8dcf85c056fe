"""Locality-sensitive hashing: find the pairs that are probably similar without comparing all.

A signature of b·r components is cut into b bands of r. Two documents become candidates when some
band agrees in all of its r components, so that similar pairs almost surely meet and dissimilar
ones almost surely do not.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int64, Shaped, UInt64

from llmlib.data.deduplication.window_hashes import mix

_GRID = 1000  # points of the numerical integrals


def candidate_probability(
    similarity: float | Float[np.ndarray, "*shape"], bands: int, rows: int
) -> float | Float[np.ndarray, "*shape"]:
    """Probability that a pair becomes a candidate, P(s) = 1 - (1 - s^r)^b.

    With b bands of r rows this is an S-shaped curve of the Jaccard similarity s, whose steepest
    rise lies near s = (1/b)^(1/r).

    Example:
        >>> [round(candidate_probability(s, bands=20, rows=5), 4) for s in (0.8, 0.2)]
        [0.9996, 0.0064]

    References:
        Leskovec, Rajaraman and Ullman (2020), Mining of Massive Datasets, section 3.4.2.
    """
    return 1 - (1 - similarity**rows) ** bands


def tune_bands(
    threshold: float, n_hashes: int, weights: tuple[float, float] = (0.5, 0.5)
) -> tuple[int, int]:
    """Choose bands and rows so that few dissimilar pairs meet and few similar ones are missed.

    Minimizes w₊ ∫_0^t P(s) ds + w₋ ∫_t^1 (1 - P(s)) ds over all b·r ≤ n_hashes, with P from
    `candidate_probability`: the areas of false candidates and of misses if all similarities were
    equally common.

    Args:
        threshold: Similarity t from which a pair should be found, between 0 and 1.
        weights: Cost w₊ of a false candidate and w₋ of a miss. Where candidates are verified,
            misses cost more.

    Raises:
        ValueError: If the threshold is not between 0 and 1, or a weight is negative.

    Example:
        >>> tune_bands(0.8, 128)
        (9, 13)
        >>> tune_bands(0.8, 128, weights=(0.01, 0.99))
        (18, 7)

    References:
        Zhu et al. (2016), LSH Ensemble, section 5.5 (tuning by the two areas).
    """
    if not 0 < threshold < 1:
        raise ValueError(f"threshold={threshold} must lie between 0 and 1")
    if min(weights) < 0:
        raise ValueError(f"weights={weights} are costs: zero or more")
    below = (np.arange(_GRID) + 0.5) / _GRID * threshold  # midpoints of equal steps
    above = threshold + (np.arange(_GRID) + 0.5) / _GRID * (1 - threshold)
    best = (np.inf, 1, 1)
    for rows in range(1, n_hashes + 1):
        bands = np.arange(1, n_hashes // rows + 1)[:, None]
        false_area = (1 - (1 - below**rows) ** bands).mean(axis=1) * threshold
        missed_area = ((1 - above**rows) ** bands).mean(axis=1) * (1 - threshold)
        cost = weights[0] * false_area + weights[1] * missed_area
        index = int(cost.argmin())
        best = min(best, (float(cost[index]), index + 1, rows))
    return best[1], best[2]


def lsh_candidates(
    signatures: Shaped[np.ndarray, "documents hashes"], bands: int, rows: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Find the pairs of documents that agree in all components of at least one band.

    A bucket of m documents yields m (m - 1) / 2 pairs: take exact copies out first, or ask for
    clusters alone (`near_duplicate_clusters`).

    Args:
        signatures: Unsigned integers, one row a document.
        rows: Components a band; components beyond bands times rows are not used.

    Returns:
        The two members of each pair, the smaller first; each pair once, in ascending order.

    Example:
        >>> signatures = np.array([[1, 2, 3, 4], [1, 2, 8, 9], [7, 7, 8, 9]], np.uint32)
        >>> left, right = lsh_candidates(signatures, bands=2, rows=2)
        >>> list(zip(left.tolist(), right.tolist()))
        [(0, 1), (1, 2)]

    References:
        Indyk and Motwani (1998), Approximate Nearest Neighbors; Leskovec et al. (2020), section
        3.4.
    """
    n_documents = len(signatures)
    pairs = np.empty(0, np.int64)
    for keys in band_keys(signatures, bands, rows):
        found = [pairs]
        for left, right in equal_pairs(keys):
            found.append(np.minimum(left, right) * n_documents + np.maximum(left, right))
        pairs = np.unique(np.concatenate(found))
    return pairs // max(1, n_documents), pairs % max(1, n_documents)


def band_keys(
    signatures: Shaped[np.ndarray, "documents hashes"], bands: int, rows: int
) -> Iterator[UInt64[np.ndarray, " documents"]]:
    """Yield for each band a number a document, equal where all components of the band agree.

    Raises:
        ValueError: If the signatures are shorter than the bands need.
    """
    n_hashes = signatures.shape[1]
    if bands * rows > n_hashes:
        raise ValueError(f"{bands} bands of {rows} need {bands * rows} hashes, not {n_hashes}")
    factors = mix(np.arange(1, rows + 1, dtype=np.uint64)) | np.uint64(1)
    for band in range(bands):
        yield signatures[:, band * rows : (band + 1) * rows].astype(np.uint64) @ factors


def equal_pairs(
    keys: Shaped[np.ndarray, " items"],
) -> Iterator[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]]:
    """Find all pairs of items with equal keys.

    Yields:
        Arrays of the two members of pairs: first neighbours in the sorted order, then next but
        one, and so on; each pair once, its members in any order.

    Example:
        >>> [len(left) for left, _ in equal_pairs(np.array([5, 2, 5, 5, 2]))]
        [3, 1]
    """
    order = np.argsort(keys)
    keys = keys[order]
    places = np.arange(len(keys) - 1)
    step = 1
    while True:
        places = places[places < len(keys) - step]
        places = places[keys[places] == keys[places + step]]
        if not len(places):
            return
        yield order[places], order[places + step]
        step += 1
