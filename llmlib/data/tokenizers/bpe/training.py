"""Learning byte-pair merges without counting the corpus again after each.

The textbook trainer counts every adjacent pair, merges the commonest everywhere and starts over:
one pass over the corpus for each entry of the vocabulary. Here

- equal pieces are counted once, with a weight;
- each pair remembers the pieces it was seen in, so a merge visits only those;
- a merge changes only the counts of the pairs that touch it; a heap holds the pairs by count, and
  an entry that has become stale is corrected when it reaches the top.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping

from llmlib.data.tokenizers.bpe.symbols import as_symbols, count_pairs, merge_pair
from llmlib.data.tokenizers.pretokenization import pretokenize


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """Cut texts into pieces and count equal ones."""
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
    counts, places = count_pairs(words, weights)
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
        for made, seen_in in merge_pair(pair, new, where, words, weights, counts)[0].items():
            if counts[made] > 0:
                heapq.heappush(heap, (-counts[made], made, seen_in))
    return merges
