from collections.abc import Sequence


def place_before(place: int, edits: Sequence[tuple[int, int, int]]) -> int:
    """Follow a place of the redacted text back into the original."""
    shift = 0  # how much longer the new text has become so far
    for start, stop, length in edits:
        if place < start + shift:
            break
        if place < start + shift + length:
            return start
        shift += length - (stop - start)
    return place - shift
