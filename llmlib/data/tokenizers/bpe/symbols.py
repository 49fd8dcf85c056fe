"""Pieces of text as strings whose characters are token ids, and merging pairs in many of them.

In such a string (`chr(id)`) a pair is a substring of length two. Finding and comparing pairs is
then the work of the string type, and strings compare as their ids do.
"""

from collections.abc import Sequence

# The 256 bytes in the order of GPT-2's vocabulary: printable characters of Latin-1 first.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_ORDER = bytes(_PRINTABLE + [byte for byte in range(256) if byte not in _PRINTABLE])
_RANK_OF_BYTE = bytes(BYTE_ORDER.index(byte) for byte in range(256))

MAX_TOKENS = 0x110000  # a token id has to be a character


def as_symbols(data: bytes) -> str:
    """Write bytes as a string of their ranks in `BYTE_ORDER`: the token ids before any merge.

    Example:
        >>> [ord(symbol) for symbol in as_symbols(b"!~ ")]
        [0, 93, 220]
    """
    return data.translate(_RANK_OF_BYTE).decode("latin-1")


def count_pairs(
    words: Sequence[str], weights: Sequence[int]
) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Count each pair of neighbours, and note in which words it stands.

    Example:
        >>> count_pairs(["aba", "ab"], [2, 3])
        ({'ab': 5, 'ba': 2}, {'ab': [0, 1], 'ba': [0]})
    """
    counts: dict[str, int] = {}
    places: dict[str, list[int]] = {}
    for index, (word, weight) in enumerate(zip(words, weights, strict=True)):
        for first, second in zip(word, word[1:], strict=False):
            _gain(first + second, weight, index, counts, places)
    return counts, places


def merge_pair(
    pair: str,
    new: str,
    where: Sequence[int],
    words: list[str],
    weights: Sequence[int],
    counts: dict[str, int],
) -> tuple[dict[str, list[int]], int]:
    """Merge a pair from left to right in the words that hold it, and change the pairs' counts.

    Args:
        where: The words' numbers; one may stand there twice, or no longer hold the pair: then
            nothing happens to it.
        counts: Holds a count of every pair there is, or 0 for any that it is asked for.

    Returns:
        The pairs that this made, with the words they are in; and how many pairs became one.
    """
    first, second = pair
    made: dict[str, list[int]] = {}
    merges = 0
    for index in where:
        word = words[index]
        at = word.find(pair)
        if at < 0:
            continue
        weight = weights[index]
        merged = ""
        end = 0  # of the last occurrence
        while at >= 0:
            merged += word[end:at]
            if merged:
                left = merged[-1]
                counts[left + first] -= weight
                _gain(left + new, weight, index, counts, made)
            merged += new
            merges += weight
            end = at + 2
            if end < len(word):
                right = word[end]
                counts[second + right] -= weight
                _gain(new + right, weight, index, counts, made)
            at = word.find(pair, end)
        words[index] = merged + word[end:]
    return made, merges


def _gain(
    pair: str, weight: int, index: int, counts: dict[str, int], made: dict[str, list[int]]
) -> None:
    counts[pair] = counts.get(pair, 0) + weight
    if pair in made:
        made[pair].append(index)
    else:
        made[pair] = [index]
