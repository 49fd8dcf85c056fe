"""Counts of neighbouring symbols, kept up to date while pairs of them are merged.

Byte-pair encoding merges the commonest pair, WordPiece the pair whose parts are commonest
*together*. The second score changes whenever a part's own count changes, also upwards, so no heap
of scores stays right. Here the counts lie in arrays, each merge changes the few that it touches,
and all scores are worked out again in one array operation.

As in the byte-level trainer, a word in the making is a string whose characters are symbol ids.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from llmlib.data.tokenizers.bpe.symbols import count_pairs, merge_pair

PairScore = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""Pair counts, counts of the first and the second part, count of all symbols: to scores."""


def by_count(pair: np.ndarray, first: np.ndarray, second: np.ndarray, total: int) -> np.ndarray:
    """Score pairs as byte-pair encoding does: n(ab)."""
    return pair


def by_ratio(pair: np.ndarray, first: np.ndarray, second: np.ndarray, total: int) -> np.ndarray:
    r"""Score pairs as WordPiece is usually told: $n(ab) / (n(a)\,n(b))$.

    A pair seen once, of parts seen once, has the highest score there is.
    """
    return pair / (first.astype(np.float64) * second)


def by_gain(pair: np.ndarray, first: np.ndarray, second: np.ndarray, total: int) -> np.ndarray:
    r"""Score pairs by what their merge adds to the log-likelihood, to first order, in nats.

    $n(ab) \ln\frac{n(ab)\,N}{n(a)\,n(b)}$: each of the n(ab) places gains the logarithm of how
    much likelier the pair is than its parts would be side by side.
    """
    return pair * np.log(pair * float(total) / (first.astype(np.float64) * second))


class PairTable:
    r"""Words as strings of symbols, with the counts of symbols and of neighbouring pairs.

    Args:
        words: Distinct words, each a string of symbol ids.
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
        n_of: Counter[str] = Counter()
        for word, weight in zip(self._words, self._weights, strict=True):
            for symbol in word:
                n_of[symbol] += weight
        for symbol, count in n_of.items():
            self._symbols[ord(symbol)] = count
        self._total = n_of.total()
        self._apply(*count_pairs(self._words, self._weights))

    def best(self, score: PairScore, min_frequency: int = 1) -> tuple[int, int] | None:
        """Return the pair with the highest score; among equals the one with the smallest ids.

        None if no pair occurs `min_frequency` times, which is at least 1.
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
        """Put one symbol in the place of a pair, everywhere, from left to right."""
        joined = chr(pair[0]) + chr(pair[1])
        slot = self._slots[joined]
        changes: dict[str, int] = defaultdict(int)
        made, merged = merge_pair(
            joined, chr(new), self._places[slot], self._words, self._weights, changes
        )
        self._apply(changes, made)
        self._counts[slot] = 0
        self._places[slot] = []
        if new >= self._symbols.size:
            self._symbols = np.concatenate([self._symbols, np.zeros_like(self._symbols)])
        self._symbols[new] += merged
        self._symbols[pair[0]] -= merged
        self._symbols[pair[1]] -= merged
        self._total -= merged

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


def letters_of(word: str, continuing: str, end_of_word: str = "") -> list[str]:
    """Return the symbols of one character that a word starts as, marked by where they stand.

    Example:
        >>> letters_of("low", "##", "</w>")
        ['l', '##o', '##w</w>']
    """
    letters = [word[:1], *(continuing + character for character in word[1:])]
    letters[-1] += end_of_word
    return letters


def learn_symbols(
    words: Mapping[str, int],
    alphabet: Sequence[str],
    vocab_size: int,
    *,
    reserved: int,
    min_frequency: int,
    continuing: str,
    end_of_word: str = "",
    score: PairScore = by_count,
) -> tuple[list[str], list[tuple[str, str]]]:
    """Merge the pair that scores best until the vocabulary is full.

    Args:
        words: Words, none of them empty, and how often each occurs.
        alphabet: The symbols of one character in the order of their ids, which decides between
            pairs of equal score.
        reserved: How many of the `vocab_size` ids are no symbols.
        min_frequency: Pairs seen fewer times are not merged; at least 1.
        continuing: Mark of all but the first symbol of a word; `end_of_word`: of the last.

    Returns:
        The symbols, the alphabet first; and the merges by the spelling of their parts.

    Raises:
        ValueError: If the vocabulary is too small for the alphabet or larger than the words allow.
    """
    if min_frequency < 1:
        raise ValueError(f"min_frequency={min_frequency} must be at least 1")
    if vocab_size < reserved + len(alphabet):
        raise ValueError(
            f"vocab_size={vocab_size} is too small: {reserved} special tokens and bytes and "
            f"{len(alphabet)} characters need {reserved + len(alphabet)}"
        )
    names = list(alphabet)
    ids = {letter: i for i, letter in enumerate(names)}
    spelt = [
        "".join([chr(ids[letter]) for letter in letters_of(word, continuing, end_of_word)])
        for word in words
    ]
    table = PairTable(spelt, list(words.values()), len(names))
    merges: list[tuple[str, str]] = []
    while reserved + len(names) < vocab_size:
        pair = table.best(score, min_frequency)
        if pair is None:
            raise ValueError(
                f"vocab_size={vocab_size} is larger than the text allows: no pair is left that "
                f"occurs {min_frequency} times. Use at most vocab_size={reserved + len(names)}, or "
                "more text."
            )
        first, second = names[pair[0]], names[pair[1]]
        joined = first + second.removeprefix(continuing)
        # A symbol reached by two ways is one.
        new = ids.setdefault(joined, len(names))
        if new == len(names):
            names.append(joined)
        merges.append((first, second))
        table.merge(pair, new)
    return names, merges
