"""Applying learnt merges to a piece of text, in the order in which they were learnt."""

import random
from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import pairwise
from typing import TypeVar

from llmlib.data.tokenizers.bpe.symbols import MAX_TOKENS, as_symbols

_SHORT = 200  # symbols up to which scanning for the best pair beats keeping a heap
_NO_MERGE = MAX_TOKENS
_Part = TypeVar("_Part", str, bytes)


class PieceMerger:
    """Merges on one piece of text, which is a string of token ids as in training.

    Args:
        rules: Pairs and what each becomes, strings of ids, first to be merged first; one rule
            a pair.

    Example:
        >>> merger = PieceMerger([("\u0041\u0042", "\u0100")])  # ids 65 and 66 make 256
        >>> merger.merge("\u0041\u0041\u0042") == "\u0041\u0100"
        True
    """

    def __init__(self, rules: Sequence[tuple[str, str]]) -> None:
        self._rank = {pair: rank for rank, (pair, _) in enumerate(rules)}
        self._rules = rules

    def encode(self, data: bytes) -> bytes:
        """Return the ids of bytes, little-endian, 32 bits each."""
        merged = self.merge(as_symbols(data))
        return merged.encode("utf-32-le", "surrogatepass")  # 0xD800..0xDFFF are ids like others

    def merge(self, symbols: str) -> str:
        """Merge the pair of lowest rank first, leftmost first among equals, until none is left."""
        if len(symbols) > _SHORT:
            return self._merge_long(symbols)
        rank = self._rank.get
        while len(symbols) > 1:
            best = min([rank(a + b, _NO_MERGE) for a, b in pairwise(symbols)])
            if best == _NO_MERGE:
                break
            symbols = symbols.replace(*self._rules[best], 1)
        return symbols

    def merge_dropping(self, symbols: str, rng: random.Random, dropout: float) -> str:
        """Merge as `merge` does, but before each step leave out every merge by chance.

        References:
            Provilkov, Emelianenko and Voita (2020), BPE-Dropout, algorithm 1.
        """
        while True:
            possible = [
                (self._rank[a + b], at)
                for at, (a, b) in enumerate(pairwise(symbols))
                if a + b in self._rank and rng.random() >= dropout
            ]
            if not possible:
                return symbols
            rank, at = min(possible)
            symbols = symbols[:at] + self._rules[rank][1] + symbols[at + 2 :]

    def _merge_long(self, symbols: str) -> str:
        def join(pair: str) -> str:
            return self._rules[self._rank[pair]][1]

        return "".join(merge_neighbours(list(symbols), self._rank.get, join))


def rules_by_spelling(
    merges: Iterable[tuple[str, str]], symbols: dict[str, str], continuing: str = ""
) -> list[tuple[str, str]]:
    r"""Turn merges by their parts' spelling into rules on symbols, which are numbered from 0.

    What a merge makes gets the next symbol, unless its spelling has one; the second part loses the
    mark `continuing`.

    Raises:
        ValueError: If a merge joins what has no symbol yet.

    Example:
        >>> symbols = {"a": "\x00", "b": "\x01"}
        >>> rules_by_spelling([("a", "b")], symbols), symbols["ab"]
        ([('\x00\x01', '\x02')], '\x02')
    """
    rules: list[tuple[str, str]] = []
    for first, second in merges:
        if first not in symbols or second not in symbols:
            raise ValueError(f"the merge of {first!r} and {second!r} joins what is no token yet")
        made = symbols.setdefault(first + second.removeprefix(continuing), chr(len(symbols)))
        rules.append((symbols[first] + symbols[second], made))
    return rules


def merge_neighbours(
    parts: list[_Part],
    rank: Callable[[_Part], float | None],
    join: Callable[[_Part], _Part] | None = None,
    parts_of: dict[_Part, tuple[_Part, _Part]] | None = None,
) -> list[_Part]:
    """Join neighbours: lowest rank first, leftmost first among equals.

    With a heap of ranks and places over a linked list this takes n log n steps, not n squared.

    Args:
        parts: None of them empty; changed in place.
        rank: Of two neighbours' concatenation; None if they stay apart.
        join: What this concatenation becomes; by default it stays.
        parts_of: Gets the neighbours last seen to make each concatenation that has a rank.

    Returns:
        What is left when no neighbours have a rank.
    """
    n = len(parts)
    following, preceding = list(range(1, n + 1)), list(range(-1, n - 1))
    heap: list[tuple[float, int, int, _Part]] = []

    def offer(left: int, right: int) -> None:
        if left < 0 or right >= n:
            return
        both = parts[left] + parts[right]
        best = rank(both)
        if best is not None:
            heappush(heap, (best, left, right, both))
            if parts_of is not None:
                parts_of[both] = parts[left], parts[right]

    for left in range(n - 1):
        offer(left, left + 1)
    while heap:
        _, left, right, both = heappop(heap)
        # An absorbed part is empty, and one that has grown makes another concatenation.
        if not parts[left] or not parts[right] or parts[left] + parts[right] != both:
            continue
        parts[left], parts[right] = join(both) if join else both, both[:0]
        after = following[left] = following[right]
        if after < n:
            preceding[after] = left
        offer(preceding[left], left)
        offer(left, after)
    return [part for part in parts if part]
