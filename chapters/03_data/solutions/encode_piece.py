from collections.abc import Mapping
from itertools import pairwise


def encode_piece(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Cut a word by the merges, lowest rank first, leftmost among equals."""
    symbols = list(word)
    while True:
        found = [
            (ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in ranks
        ]
        if not found:
            return symbols
        _, place = min(found)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]
