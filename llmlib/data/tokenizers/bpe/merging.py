"""Applying learnt merges to a piece of text, in the order in which they were learnt.

As in training, a piece in the making is a string whose characters are token ids, so that the
string type does the searching.
"""

import heapq
from collections.abc import Sequence
from itertools import pairwise

from llmlib.data.tokenizers.bpe.training import MAX_TOKENS, as_symbols

_CACHED_PIECES = 1 << 18  # the commonest 32,000 pieces cover almost any text; this bounds memory
_CACHED_LENGTH = 64  # characters; longer pieces hardly ever come twice
_SHORT = 200  # symbols up to which scanning for the best pair beats keeping a heap
_NO_MERGE = MAX_TOKENS


class PieceEncoder(dict[str, bytes]):
    """A mapping from a piece of text to its ids (little-endian, 32 bits), filled on first use.

    Words repeat, so almost every look-up finds the work done. Being a dictionary, it is read
    without running a line of Python: `map(encoder.__getitem__, pieces)`.

    Args:
        rules: Pairs and what each becomes, strings of ids, first to be merged first; one rule
            a pair.

    Example:
        >>> encoder = PieceEncoder([("\u0041\u0042", "\u0100")])  # ids 65 and 66 make 256
        >>> encoder.merge("\u0041\u0041\u0042") == "\u0041\u0100"
        True
    """

    def __init__(self, rules: Sequence[tuple[str, str]]):
        super().__init__()
        self._rank = {pair: rank for rank, (pair, _) in enumerate(rules)}
        self._rules = rules

    def __missing__(self, piece: str) -> bytes:
        merged = self.merge(as_symbols(piece.encode()))
        ids = merged.encode("utf-32-le", "surrogatepass")  # ids 0xD800..0xDFFF are ids like others
        if len(piece) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids

    def merge(self, symbols: str) -> str:
        """Apply the merges to one piece: lowest rank first, leftmost first among equals.

        Args:
            symbols: A string of ids.

        Returns:
            The string of ids in which no rule applies any more.
        """
        if len(symbols) > _SHORT:
            return self._merge_long(symbols)
        rank = self._rank.get
        while len(symbols) > 1:
            best = min([rank(a + b, _NO_MERGE) for a, b in pairwise(symbols)])
            if best == _NO_MERGE:
                break
            symbols = symbols.replace(*self._rules[best], 1)
        return symbols

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
