from collections import Counter
from collections.abc import Mapping
from itertools import pairwise


def learn_pairs(words: Mapping[str, int], n_merges: int) -> list[tuple[str, str]]:
    """Learn merges from words and their counts, as the textbooks do."""
    spelt = {word: list(word) for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in spelt.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        if not counts:
            break
        merges.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        for symbols in spelt.values():
            place = 0
            while place + 1 < len(symbols):
                if (symbols[place], symbols[place + 1]) == merges[-1]:
                    symbols[place : place + 2] = ["".join(merges[-1])]
                place += 1
    return merges
