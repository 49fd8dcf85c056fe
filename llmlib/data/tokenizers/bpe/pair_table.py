"""Counts of neighbouring symbols, kept up to date while pairs of them are merged.

Byte-pair encoding merges the commonest pair, WordPiece the pair whose parts are commonest
*together*. The second score changes whenever a part's own count changes, also upwards, so no heap
of scores stays right. Here the counts lie in arrays, each merge changes the few that it touches,
and all scores are worked out again in one array operation.

As in the byte-level trainer, a word in the making is a string whose characters are symbol ids.
"""

from collections.abc import Callable, Sequence

import numpy as np

Score = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""Pair counts, counts of the first and the second part, count of all symbols: to scores."""


def by_count(pair: np.ndarray, first: np.ndarray, second: np.ndarray, total: int) -> np.ndarray:
    """Score pairs as byte-pair encoding does: n(ab).

    Args:
        pair: Counts of the pairs.
        first: Counts of their first parts.
        second: Counts of their second parts.
        total: Count of all symbols.

    Returns:
        The pairs' counts.
    """
    return pair


def by_ratio(pair: np.ndarray, first: np.ndarray, second: np.ndarray, total: int) -> np.ndarray:
    r"""Score pairs as WordPiece is usually told: $n(ab) / (n(a)\,n(b))$.

    Args:
        pair: Counts of the pairs.
        first: Counts of their first parts.
        second: Counts of their second parts.
        total: Count of all symbols.

    Returns:
        The ratios. A pair seen once, of parts seen once, has the highest there is.
    """
    return pair / (first.astype(np.float64) * second)


def by_gain(pair: np.ndarray, first: np.ndarray, second: np.ndarray, total: int) -> np.ndarray:
    r"""Score pairs by what their merge adds to the log-likelihood, to first order, in nats.

    $n(ab) \ln\frac{n(ab)\,N}{n(a)\,n(b)}$: each of the n(ab) places gains the logarithm of how
    much likelier the pair is than its parts would be side by side.

    Args:
        pair: Counts of the pairs.
        first: Counts of their first parts.
        second: Counts of their second parts.
        total: Count of all symbols, N.

    Returns:
        The gains.
    """
    return pair * np.log(pair * float(total) / (first.astype(np.float64) * second))


class PairTable:
    r"""Words as strings of symbols, with the counts of symbols and of neighbouring pairs.

    Args:
        words: Distinct words, each a string of symbol ids.
        weights: How often each word occurs.
        n_symbols: Number of ids in use.

    Example:
        >>> a, b, c = "\x00\x01\x02"
        >>> table = PairTable([a + b + c, a + b], [2, 3], 3)
        >>> table.best(by_count)
        (0, 1)
        >>> table.merge((0, 1), 3)
        >>> table.best(by_count)
        (3, 2)
    """

    def __init__(self, words: Sequence[str], weights: Sequence[int], n_symbols: int) -> None:
        self._words, self._weights = list(words), list(weights)
        self._slots: dict[str, int] = {}
        self._places: list[list[int]] = []
        self._symbols = np.zeros(max(1024, 2 * n_symbols), dtype=np.int64)
        capacity = 1024
        self._counts = np.zeros(capacity, dtype=np.int64)
        self._parts = np.zeros((2, capacity), dtype=np.int64)
        changes: dict[str, int] = {}
        made: dict[str, list[int]] = {}
        n_of: dict[str, int] = {}
        for at, (word, weight) in enumerate(zip(self._words, self._weights, strict=True)):
            for symbol in word:
                n_of[symbol] = n_of.get(symbol, 0) + weight
            for first, second in zip(word, word[1:], strict=False):
                _gain(first + second, weight, at, changes, made)
        for symbol, count in n_of.items():
            self._symbols[ord(symbol)] = count
        self._total = sum(n_of.values())
        self._apply(changes, made)

    def best(self, score: Score, min_frequency: int = 1) -> tuple[int, int] | None:
        """Return the pair with the highest score; among equals the one with the smallest ids.

        Args:
            score: Turns counts into scores.
            min_frequency: Pairs seen fewer times are left alone; at least 1.

        Returns:
            The pair's ids, or None if no pair is frequent enough.
        """
        n = len(self._places)
        if n > 1024 and 2 * np.count_nonzero(self._counts[:n]) < n:
            self._drop_dead(np.flatnonzero(self._counts[:n]))
            n = len(self._places)
        counts, (first, second) = self._counts[:n], self._parts[:, :n]
        n_first, n_second = self._symbols[first], self._symbols[second]
        # Pairs that occur no more get a count of 1 here only so that no score divides by nothing.
        n_pair, n_first, n_second = (np.maximum(x, 1) for x in (counts, n_first, n_second))
        scores = score(n_pair, n_first, n_second, self._total).astype(np.float64)
        scores[counts < min_frequency] = -np.inf
        if n == 0 or (highest := scores.max()) == -np.inf:
            return None
        ties = np.flatnonzero(scores == highest)
        pairs = self._parts[:, ties]
        at = np.lexsort((pairs[1], pairs[0]))[0]
        return int(pairs[0, at]), int(pairs[1, at])

    def merge(self, pair: tuple[int, int], new: int) -> None:
        """Put one symbol in the place of a pair, everywhere, from left to right.

        Args:
            pair: The ids of the two symbols.
            new: The id of what they become.
        """
        first, second = chr(pair[0]), chr(pair[1])
        slot = self._slots[first + second]
        changes: dict[str, int] = {}
        made: dict[str, list[int]] = {}
        merged = self._merge_words(first, second, chr(new), self._places[slot], changes, made)
        self._apply(changes, made)
        self._counts[slot] = 0
        self._places[slot] = []
        if new >= self._symbols.size:
            self._symbols = np.concatenate([self._symbols, np.zeros_like(self._symbols)])
        self._symbols[new] += merged
        self._symbols[pair[0]] -= merged
        self._symbols[pair[1]] -= merged
        self._total -= merged

    def _merge_words(
        self, first: str, second: str, new: str, where: list[int], changes: dict, made: dict
    ) -> int:
        """Merge in the words that hold the pair; return how many pairs became one."""
        pair, merges = first + second, 0
        for index in where:
            word = self._words[index]
            at = word.find(pair)
            if at < 0:  # listed twice, or the pair went when a neighbour was merged
                continue
            weight = self._weights[index]
            out, end = "", 0
            while at >= 0:
                out += word[end:at]
                if out:
                    lost = out[-1] + first
                    changes[lost] = changes.get(lost, 0) - weight
                    _gain(out[-1] + new, weight, index, changes, made)
                out += new
                merges += weight
                end = at + 2
                if end < len(word):
                    lost = second + word[end]
                    changes[lost] = changes.get(lost, 0) - weight
                    _gain(new + word[end], weight, index, changes, made)
                at = word.find(pair, end)
            self._words[index] = out + word[end:]
        return merges

    def _apply(self, changes: dict[str, int], made: dict[str, list[int]]) -> None:
        for pair, where in made.items():
            slot = self._slots.get(pair)
            if slot is not None:
                self._places[slot] += where
                continue
            slot = self._slots[pair] = len(self._places)
            self._places.append(where)
            if slot == self._counts.size:
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
                self._parts = np.concatenate([self._parts, np.zeros_like(self._parts)], axis=1)
            self._parts[:, slot] = ord(pair[0]), ord(pair[1])
        known = [(self._slots[pair], n) for pair, n in changes.items() if pair in self._slots]
        if known:
            slots, amounts = np.array(known, dtype=np.int64).T
            self._counts[slots] += amounts

    def _drop_dead(self, live: np.ndarray) -> None:
        """Forget pairs that occur no more; one that comes back starts from nothing again."""
        self._places = [self._places[slot] for slot in live]
        self._counts[: live.size] = self._counts[live]
        self._counts[live.size :] = 0
        self._parts[:, : live.size] = self._parts[:, live]
        firsts, seconds = self._parts[:, : live.size].tolist()
        self._slots = {
            chr(a) + chr(b): slot for slot, (a, b) in enumerate(zip(firsts, seconds, strict=True))
        }


def _gain(
    pair: str, weight: int, index: int, changes: dict[str, int], made: dict[str, list[int]]
) -> None:
    changes[pair] = changes.get(pair, 0) + weight
    if pair in made:
        made[pair].append(index)
    else:
        made[pair] = [index]
