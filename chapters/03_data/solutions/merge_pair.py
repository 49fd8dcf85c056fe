from collections.abc import Sequence


def merge_pair(symbols: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replace a pair of symbols by one, wherever it stands, from left to right."""
    merged: list[int] = []
    place = 0
    while place < len(symbols):
        if tuple(symbols[place : place + 2]) == pair:
            merged.append(new)
            place += 2
        else:
            merged.append(symbols[place])
            place += 1
    return merged
