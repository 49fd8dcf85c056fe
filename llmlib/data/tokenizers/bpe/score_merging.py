"""Byte-pair encoding as SentencePiece does it: pieces have scores, and merges none of their own.

Any two neighbours that spell a piece may be merged, the pair whose piece scores best first.
"""

import heapq
import re
from collections.abc import Collection, Mapping, Sequence


def merge_by_score(
    parts: Sequence[str],
    frozen: Sequence[bool],
    known: Mapping[str, tuple[tuple[int, ...], float]],
    unused: Collection[str],
) -> list[str]:
    """Merge neighbours whose concatenation is a piece: best score first, then leftmost.

    Args:
        parts: The text in its smallest parts.
        frozen: Parts that take no part in merges.
        unused: Pieces that may stand on the way to others but not in the end; such a merge is
            undone.

    Example:
        >>> known = {"ab": ((3,), -1.0), "bc": ((4,), 0.0)}
        >>> merge_by_score("abc", [False] * 3, known, unused=())
        ['a', 'bc']
    """
    parts = list(parts)
    n = len(parts)
    following, preceding = list(range(1, n + 1)), list(range(-1, n - 1))
    made: dict[str, tuple[str, str]] = {}
    heap: list[tuple[float, int, int, int]] = []

    def offer(left: int, right: int) -> None:
        if left < 0 or right >= n or frozen[left] or frozen[right]:
            return
        joined = parts[left] + parts[right]
        if joined in known:
            heapq.heappush(heap, (-known[joined][1], left, right, len(joined)))
            if joined in unused:
                made[joined] = parts[left], parts[right]

    for left in range(n - 1):
        offer(left, left + 1)
    while heap:
        _, left, right, length = heapq.heappop(heap)
        # An absorbed part is empty; a part that has grown makes the length wrong.
        if not parts[left] or not parts[right]:
            continue
        if len(parts[left]) + len(parts[right]) != length:
            continue
        parts[left], parts[right] = parts[left] + parts[right], ""
        after = following[left] = following[right]
        if after < n:
            preceding[after] = left
        offer(preceding[left], left)
        offer(left, after)
    return [piece for part in parts if part for piece in _undone(part, made)]


def cut_round(text: str, symbols: Collection[str]) -> list[str]:
    """Cut into characters, but leave each symbol, the longest that fits, in one part.

    Example:
        >>> cut_round("a<s>b", ["<s>"])
        ['a', '<s>', 'b']
    """
    if not symbols:
        return list(text)
    names = sorted(symbols, key=len, reverse=True)
    return re.findall(f"{'|'.join(map(re.escape, names))}|.", text, re.DOTALL)


def _undone(piece: str, made: Mapping[str, tuple[str, str]]) -> list[str]:
    """Undo the merges that made a piece that is not to be used."""
    if piece not in made:
        return [piece]
    first, second = made[piece]
    return _undone(first, made) + _undone(second, made)
