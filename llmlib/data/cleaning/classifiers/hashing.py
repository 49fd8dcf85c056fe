r"""Texts as bags of hashed n-grams: features without a vocabulary.

An n-gram's row in the weight table is its hash modulo the number of buckets. Two n-grams that meet
in a bucket share a weight; with far more buckets than n-grams that matter, this costs little
(Weinberger et al. 2009). Hashes are polynomials in 64-bit integers, computed for all positions of
all texts at once, and depend on nothing but the text: no seed, no Python `hash`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

from llmlib.data.corpora.units import words_of

_MIX = np.uint64(0x9E3779B97F4A7C15)
_WORD = np.uint64(0x100000001B3)
_SPACE = 32
_NO_LETTERS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True)
class Bags:
    """The features of several texts as a sparse matrix, row by row."""

    buckets: Int[np.ndarray, " features"]
    """Bucket of each distinct feature of each text."""
    values: Float32[np.ndarray, " features"]
    """Its weight: log(1 + count), the weights of a text scaled to length 1."""
    offsets: Int[np.ndarray, " texts_and_one"]
    """Where each text's features begin, and the end of the last: one more than texts."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def select(self, texts: Int[np.ndarray, " chosen"]) -> "Bags":
        """Return the bags of the texts at some positions, in their order."""
        starts = self.offsets[texts]
        lengths = self.offsets[texts + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Bags(self.buckets[places], self.values[places], offsets)

    def dot(self, weights: Float32[np.ndarray, "buckets K"]) -> Float32[np.ndarray, "texts K"]:
        """Multiply the matrix of features with a table of weights: a text without features is 0."""
        terms = np.zeros((len(self.buckets) + 1, weights.shape[1]), dtype=np.float32)
        np.multiply(weights[self.buckets], self.values[:, None], out=terms[:-1])
        sums = np.add.reduceat(terms, self.offsets[:-1])  # [texts K]
        sums[self.offsets[:-1] == self.offsets[1:]] = 0  # reduceat takes one term there
        return sums


def character_bags(texts: Sequence[str], *, orders: Sequence[int], buckets: int) -> Bags:
    """Hash every character n-gram of every text; none reaches from one text into the next.

    Texts are put in lower case, runs of anything but letters become one space, and a space is put
    before and after, so that n-grams know where words begin and end.

    Args:
        orders: Lengths of the n-grams, in characters, each at least 1.
        buckets: A power of 2.

    Example:
        >>> bags = character_bags(["ab", "AB!"], orders=[2], buckets=1024)
        >>> bags.offsets.tolist(), bags.buckets[:3].tolist() == bags.buckets[3:].tolist()
        ([0, 3, 6], True)
    """
    points, text = _code_points([f" {_NO_LETTERS.sub(' ', t.lower()).strip()} " for t in texts])
    return _bags(points, text, len(texts), orders=orders, buckets=buckets)


def word_bags(texts: Sequence[str], *, orders: Sequence[int], buckets: int) -> Bags:
    """Hash every word n-gram of every text, as `character_bags` those of characters.

    Words are those of `words_of`; case and punctuation stay, because both tell edited from unedited
    text. Each text begins and ends with a mark of its own.

    Example:
        >>> word_bags(["to be or not"], orders=[1, 2], buckets=1024).offsets.tolist()
        [0, 11]
    """
    # The marks are words of one control character, which no readable text holds.
    points, text = _code_points([f"\x02 {' '.join(words_of(text))} \x03" for text in texts])
    is_space = points == _SPACE
    after_a_gap = np.concatenate([[True], is_space[:-1] | (text[1:] != text[:-1])])
    begins = np.flatnonzero(~is_space & after_a_gap)
    if not len(begins):
        return _bags(points, text, len(texts), orders=orders, buckets=buckets)
    position = np.arange(len(points)) - np.repeat(
        begins, np.diff(np.concatenate([begins, [len(points)]]))
    )
    powers = np.cumprod(np.full(int(position.max()) + 1, _WORD))
    terms = np.where(is_space, np.uint64(0), points) * powers[position]
    return _bags(
        np.add.reduceat(terms, begins), text[begins], len(texts), orders=orders, buckets=buckets
    )


def _code_points(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Code points of the texts, and the text each belongs to."""
    data = "".join(texts).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(data, dtype="<u4").astype(np.uint64)
    return points, np.repeat(np.arange(len(texts)), [len(text) for text in texts])


def _bags(
    units: np.ndarray, text: np.ndarray, n_texts: int, *, orders: Sequence[int], buckets: int
) -> Bags:
    """Hash the n-grams of a stream of units, given which text each unit belongs to."""
    if buckets < 1 or buckets & (buckets - 1):
        raise ValueError(f"buckets={buckets} must be a power of 2")
    if not orders or min(orders) < 1:
        raise ValueError(f"orders={list(orders)} must be lengths of at least 1")
    shift = np.uint64(64 - (buckets.bit_length() - 1))
    rows, owners = [], []
    grams = np.zeros(0, dtype=np.uint64)
    for n in range(1, max(orders) + 1):
        count = max(0, len(units) - n + 1)
        grams = units.copy() if n == 1 else grams[:count] * _WORD + units[n - 1 :] + np.uint64(n)
        if n in orders:
            inside = text[:count] == text[n - 1 :]
            # The high bits of a product mix all bits of the hash; the low ones would not.
            rows.append(((grams * _MIX) >> shift)[inside])
            owners.append(text[:count][inside])
    keys = np.concatenate(owners) * buckets + np.concatenate(rows).astype(np.int64)
    keys, counts = np.unique(keys, return_counts=True)
    owner, values = keys // buckets, np.log1p(counts)
    norms = np.sqrt(np.bincount(owner, values**2, minlength=n_texts))
    offsets = np.searchsorted(owner, np.arange(n_texts + 1))
    return Bags(keys % buckets, (values / norms[owner]).astype(np.float32), offsets)
