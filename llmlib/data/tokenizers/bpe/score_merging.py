"""Byte-pair encoding as SentencePiece does it: pieces have scores, and merges none of their own.

Any two neighbours that spell a piece may be merged, the pair whose piece scores best first.
"""

from collections.abc import Collection, Mapping

from llmlib.data.tokenizers.base import split_special
from llmlib.data.tokenizers.bpe.merging import merge_neighbours


def merge_by_score(
    text: str, symbols: Collection[str], ranks: Mapping[str, float], unused: Collection[str]
) -> list[str]:
    """Merge neighbours whose concatenation is a piece: lowest rank first, then leftmost.

    Args:
        symbols: Texts that stay whole and apart, the longest that fits.
        ranks: The score of each piece, negated.
        unused: Pieces that may stand on the way to others but not in the end; such a merge is
            undone.

    Example:
        >>> merge_by_score("abc<s>ab", ["<s>"], {"ab": 1.0, "bc": 0.0}, unused=())
        ['a', 'bc', '<s>', 'ab']
    """
    pieces: list[str] = []
    for part in split_special(text, symbols, symbols):
        if part in symbols:
            pieces.append(part)
            continue
        made: dict[str, tuple[str, str]] | None = {} if unused else None
        merged = merge_neighbours(list(part), ranks.get, parts_of=made)
        pieces += [p for m in merged for p in _undone(m, made, unused)] if made else merged
    return pieces


def _undone(piece: str, made: Mapping[str, tuple[str, str]], unused: Collection[str]) -> list[str]:
    """Undo the merges that made a piece that is not to be used."""
    if piece not in unused or piece not in made:
        return [piece]
    return [part for half in made[piece] for part in _undone(half, made, unused)]
