"""All the ways of cutting many words into pieces, worked on at once.

A word of n characters has n + 1 places between them. A piece that spells characters i to j is an
edge from place i to place j, and a way of cutting the word is a path from the first place to the
last. Sums and maxima over all paths, exponentially many, take one pass over the edges; here all
words go through it together, one place after the other, in array operations.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Substrings:
    """Where the frequent substrings of some words stand: distinct ones, then each occurrence."""

    texts: list[str]

    counts: np.ndarray
    """How often each text occurs, words counted with their weights."""

    start: np.ndarray
    """Index of each occurrence's first character in the words joined."""

    length: np.ndarray
    """Number of characters of each occurrence."""

    which: np.ndarray
    """Index of each occurrence's text."""


def find_substrings(
    words: Sequence[str], weights: Sequence[int], max_length: int, min_count: int = 2
) -> Substrings:
    """Find every substring that is short and frequent enough; single characters always are.

    Each length is found from the one before: a substring is its beginning, which has a number
    already, and one more character. Rare beginnings are dropped, since no longer substring is more
    frequent than its beginning.

    Args:
        words: Distinct words, none of them empty.
        max_length: In characters, at least 1.
        min_count: Rarer substrings of two and more characters are left out.

    Example:
        >>> found = find_substrings(["abab"], [3], max_length=2, min_count=4)
        >>> found.texts, found.counts.tolist()
        (['a', 'b', 'ab'], [6.0, 6.0, 6.0])
    """
    text = "".join(words)
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    ends = np.repeat(np.cumsum(lengths), lengths)
    weight = np.repeat(np.array(weights, dtype=np.float64), lengths)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    letters, letter = np.unique(codes, return_inverse=True)
    at, which = np.arange(codes.size), letter
    texts, counts, rows = [], [], []
    for length in range(1, max_length + 1):
        if length > 1:
            longer = at + length <= ends[at]
            at, which = at[longer], which[longer]
            if at.size == 0:
                break
            keys = which * letters.size + letter[at + length - 1]
            _, which = np.unique(keys, return_inverse=True)
        count = np.bincount(which, weights=weight[at])
        if length > 1:
            frequent = count >= min_count
            keep = frequent[which]
            at, which = at[keep], (np.cumsum(frequent) - 1)[which[keep]]
            count = count[frequent]
        example = np.zeros(count.size, dtype=np.int64)
        example[which] = at
        rows.append((at, np.full(at.size, length), which + len(texts)))
        texts += [text[start : start + length] for start in example.tolist()]
        counts.append(count)
    start, length, index = (np.concatenate(column) for column in zip(*rows, strict=True))
    return Substrings(texts, np.concatenate(counts), start, length, index)


class Lattices:
    """The lattices of many words over one set of pieces, whose scores are in nats.

    Args:
        words: Distinct words, none of them empty; `weights` says how often each occurs.
        substrings: Of these words; each is a piece, numbered by its index, if `pieces`
            does not number them otherwise.
        pieces: Number of each piece, by text; other substrings are no edges.

    Raises:
        ValueError: If a character of a word is no piece: then there is no way of cutting it.

    Example:
        >>> words, weights = ["ab"], [1]
        >>> found = find_substrings(words, weights, max_length=2, min_count=1)
        >>> lattices = Lattices(words, weights, found)
        >>> counts, log_likelihood = lattices.expected_counts(np.log([0.25, 0.25, 0.5]))
        >>> (counts * 9).round().tolist(), round(float(np.exp(log_likelihood)), 4)
        ([1.0, 1.0, 8.0], 0.5625)
    """

    def __init__(
        self,
        words: Sequence[str],
        weights: Sequence[int],
        substrings: Substrings,
        pieces: Mapping[str, int] | None = None,
    ) -> None:
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        starts = np.cumsum(lengths) - lengths
        word_of = np.repeat(np.arange(len(words)), lengths)
        self.weights = np.array(weights, dtype=np.float64)
        # A word has one place more than characters, so places run ahead by one a word.
        self._first = starts + np.arange(len(words))
        self._last = self._first + lengths
        number = np.arange(len(substrings.texts))
        if pieces is not None:
            number = np.array([pieces.get(text, -1) for text in substrings.texts], dtype=np.int64)
        piece = number[substrings.which]
        keep = piece >= 0
        start, length = substrings.start[keep], substrings.length[keep]
        word = word_of[start]
        step = start - starts[word] + length
        order = np.lexsort((-length, start + length, step))
        start, word, step = start[order], word[order], step[order]
        self._start = start + word
        self._end = start + length[order] + word
        self._step = step
        self._piece = piece[keep][order]
        self._index()
        reachable = np.zeros(int(lengths.sum()) + len(words), dtype=bool)
        reachable[self._end[self._end - self._start == 1]] = True
        reachable[self._first] = True
        if not reachable.all():
            raise ValueError("a character of a word is not among the pieces")

    def keep(self, kept: np.ndarray) -> None:
        """Drop the pieces that are not kept (single characters must be); number the rest anew."""
        edges = kept[self._piece]
        number = np.cumsum(kept) - 1
        self._start, self._end = self._start[edges], self._end[edges]
        self._step, self._piece = self._step[edges], number[self._piece[edges]]
        self._index()

    def drop_whole_words(self) -> None:
        """Drop the edges that span a word of two or more characters."""
        length = self._end - self._start
        whole = (self._step == length) & np.isin(self._end, self._last) & (length > 1)
        self._start, self._end = self._start[~whole], self._end[~whole]
        self._step, self._piece = self._step[~whole], self._piece[~whole]
        self._index()

    def expected_counts(self, scores: np.ndarray) -> tuple[np.ndarray, float]:
        """The E-step: how often each piece is used, averaged over all ways of cutting.

        Returns:
            The expected counts, and the log-likelihood of all words in nats.
        """
        alpha = self._forward(scores)
        share = np.exp(alpha[self._start] + scores[self._piece] - alpha[self._end])
        # Backwards: what arrives at a place is shared among the edges that end there.
        flow = np.zeros_like(alpha)
        flow[self._last] = self.weights
        used = np.empty_like(share)
        for low, high in reversed(self._steps):
            used[low:high] = flow[self._end[low:high]] * share[low:high]
            np.add.at(flow, self._start[low:high], used[low:high])
        counts = np.bincount(self._piece, weights=used, minlength=scores.size)
        return counts, float(self.weights @ alpha[self._last])

    def best(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the likeliest way of cutting each word (Viterbi).

        Returns:
            For each piece used, the word's number and the piece's, words from their ends; and each
            word's log-probability.
        """
        alpha, back = np.zeros(self._n_places), np.zeros(self._n_places, dtype=np.int64)
        for low, high in self._steps:
            values, bounds, groups, places = self._at(alpha, scores, low, high)
            highest = np.maximum.reduceat(values, bounds)
            alpha[places] = highest
            hits = np.flatnonzero(values == highest[groups])[::-1]
            back[places[groups[hits]]] = low + hits  # the longest piece among equals, listed first
        words, used = [], []
        word, place = np.arange(self._first.size), self._last.copy()
        while word.size:
            edge = back[place]
            words.append(word)
            used.append(self._piece[edge])
            place = self._start[edge]
            on = place > self._first[word]
            word, place = word[on], place[on]
        return np.concatenate(words), np.concatenate(used), alpha[self._last]

    def _forward(self, scores: np.ndarray) -> np.ndarray:
        """Log of the summed probabilities of all paths from each word's beginning to each place."""
        alpha = np.zeros(self._n_places)
        for low, high in self._steps:
            values, bounds, groups, places = self._at(alpha, scores, low, high)
            highest = np.maximum.reduceat(values, bounds)
            sums = np.add.reduceat(np.exp(values - highest[groups]), bounds)
            alpha[places] = highest + np.log(sums)
        return alpha

    def _at(
        self, alpha: np.ndarray, scores: np.ndarray, low: int, high: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Values of the edges of one step, where each place's edges begin, and whose they are."""
        values = alpha[self._start[low:high]] + scores[self._piece[low:high]]
        end = self._end[low:high]
        fresh = np.empty(end.size, dtype=bool)
        fresh[0] = True
        np.not_equal(end[1:], end[:-1], out=fresh[1:])
        bounds = np.flatnonzero(fresh)
        return values, bounds, np.cumsum(fresh) - 1, end[bounds]

    def _index(self) -> None:
        """Note where each step's edges lie; they are sorted by step, then by place."""
        self._n_places = int(self._last[-1]) + 1 if self._last.size else 0
        last = int(self._step[-1]) if self._step.size else 0
        bounds = np.searchsorted(self._step, np.arange(1, last + 2)).tolist()
        self._steps = list(zip(bounds, bounds[1:], strict=False))
