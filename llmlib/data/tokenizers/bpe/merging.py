"""Applying learnt merges to a piece of text, in the order in which they were learnt."""

import heapq
import random
from collections.abc import Sequence
from itertools import pairwise

from llmlib.data.tokenizers.bpe.symbols import MAX_TOKENS, as_symbols

_SHORT = 200  # symbols up to which scanning for the best pair beats keeping a heap
_NO_MERGE = MAX_TOKENS


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

    def _merge_long(self, text: str) -> str:
        """The same with a heap of (rank, place) over a linked list: n log n, not n squared."""
        symbols = list(text)
        n = len(symbols)
        following, preceding = list(range(1, n + 1)), list(range(-1, n - 1))
        rank = self._rank.get
        heap = [
            (r << 40) + at
            for at, (a, b) in enumerate(pairwise(text))
            if (r := rank(a + b)) is not None
        ]
        heapq.heapify(heap)
        while heap:
            entry = heapq.heappop(heap)
            at, best = entry & ((1 << 40) - 1), entry >> 40
            right = following[at]
            # An absorbed symbol is empty, so a stale entry fails this look-up.
            if right >= n or rank(symbols[at] + symbols[right]) != best:
                continue
            symbols[at], symbols[right] = self._rules[best][1], ""
            after, before = following[right], preceding[at]
            following[at] = after
            if after < n:
                preceding[after] = at
                if (r := rank(symbols[at] + symbols[after])) is not None:
                    heapq.heappush(heap, (r << 40) + at)
            if before >= 0 and (r := rank(symbols[before] + symbols[at])) is not None:
                heapq.heappush(heap, (r << 40) + before)
        return "".join(symbols)
