"""Learning byte-pair merges without counting the corpus again after each.

The textbook trainer counts every adjacent pair, merges the commonest everywhere and starts over:
one pass over the corpus for each entry of the vocabulary. Here

- equal pieces are counted once, with a weight;
- each pair remembers the pieces it was seen in, so a merge visits only those;
- a merge changes only the counts of the pairs that touch it; a heap holds the pairs by count, and
  an entry that has become stale is corrected when it reaches the top.

A piece in the making is a Python string whose *characters are token ids* (`chr(id)`), and a pair
is such a string of length two. Finding and comparing pairs is then the work of the string type,
and strings compare as their ids do.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from llmlib.data.tokenizers.pretokenization import pretokenize

# The 256 bytes in the order of GPT-2's vocabulary: printable characters of Latin-1 first.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_ORDER = bytes(_PRINTABLE + [byte for byte in range(256) if byte not in _PRINTABLE])
_RANK_OF_BYTE = bytes(BYTE_ORDER.index(byte) for byte in range(256))

MAX_TOKENS = 0x110000  # a token id has to be a character


def as_symbols(data: bytes) -> str:
    """Write bytes as a string of token ids, before any merge.

    Args:
        data: Any bytes.

    Returns:
        One character a byte, its code the rank of the byte in `BYTE_ORDER`.

    Example:
        >>> [ord(symbol) for symbol in as_symbols(b"!~ ")]
        [0, 93, 220]
    """
    return data.translate(_RANK_OF_BYTE).decode("latin-1")


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """Cut texts into pieces and count equal ones.

    Args:
        texts: The corpus.

    Returns:
        How often each piece occurs.
    """
    pieces: Counter[str] = Counter()
    for text in texts:
        pieces.update(pretokenize(text))
    return pieces


def learn_merges(
    pieces: Mapping[str, int], n_tokens: int, min_frequency: int = 1
) -> list[tuple[int, int]]:
    """Learn merges until there are `n_tokens` tokens or no pair is frequent enough.

    The pair with the highest count is merged first; among equals, the one whose first, then second
    id is smallest. No two merges spell the same bytes: within a token, merges happen as they would
    if it stood alone.

    Args:
        pieces: Pieces of text and how often each occurs.
        n_tokens: Number of tokens wanted, the 256 bytes included.
        min_frequency: Pairs rarer than this are left alone; at least 1.

    Returns:
        Pairs of ids in the order in which they are to be merged. Ids count from 0: first the
        bytes in `BYTE_ORDER`, then each new token.

    References:
        Sennrich, Haddow and Birch (2016), Neural Machine Translation of Rare Words with Subword
        Units, algorithm 1.

    Example:
        >>> merges = learn_merges({"hug": 10, "pug": 5, "hugs": 5}, n_tokens=258)
        >>> u, g, h = (ord(as_symbols(c)) for c in (b"u", b"g", b"h"))
        >>> merges == [(u, g), (h, 256)]
        True
    """
    words = [as_symbols(piece.encode()) for piece in pieces]
    weights = list(pieces.values())
    counts, places = _count_pairs(words, weights)
    heap = [(-count, pair, places[pair]) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges = []
    while 256 + len(merges) < n_tokens and heap:
        negative, pair, where = heapq.heappop(heap)
        count = counts[pair]
        if count < min_frequency:
            continue
        if count != -negative:
            heapq.heappush(heap, (-count, pair, where))
            continue
        new = chr(256 + len(merges))
        merges.append((ord(pair[0]), ord(pair[1])))
        for made, seen_in in _apply_merge(pair, new, where, words, weights, counts).items():
            if counts[made] > 0:
                heapq.heappush(heap, (-counts[made], made, seen_in))
    return merges


def _count_pairs(
    words: list[str], weights: list[int]
) -> tuple[dict[str, int], dict[str, list[int]]]:
    counts: dict[str, int] = {}
    places: dict[str, list[int]] = {}
    for index, (word, weight) in enumerate(zip(words, weights, strict=True)):
        for first, second in zip(word, word[1:], strict=False):
            pair = first + second
            if pair in counts:
                counts[pair] += weight
                places[pair].append(index)
            else:
                counts[pair] = weight
                places[pair] = [index]
    return counts, places


def _apply_merge(
    pair: str, new: str, where: list[int], words: list[str], weights: list[int], counts: dict
) -> dict[str, list[int]]:
    """Merge a pair in the words that hold it; return the pairs this made and where they are.

    A word may stand twice in `where`, or no longer hold the pair: then nothing happens to it.
    """
    first, second = pair
    made: dict[str, list[int]] = {}
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
            end = at + 2
            if end < len(word):
                right = word[end]
                counts[second + right] -= weight
                _gain(new + right, weight, index, counts, made)
            at = word.find(pair, end)
        words[index] = merged + word[end:]
    return made


def _gain(
    pair: str, weight: int, index: int, counts: dict[str, int], made: dict[str, list[int]]
) -> None:
    counts[pair] = counts.get(pair, 0) + weight
    if pair in made:
        made[pair].append(index)
    else:
        made[pair] = [index]
