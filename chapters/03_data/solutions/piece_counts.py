import math
from collections.abc import Mapping


def piece_counts(word: str, scores: Mapping[str, float]) -> dict[str, float]:
    """Expect the pieces of a word over all ways of cutting it, from sums to each place and on."""
    n = len(word)
    p = {piece: math.exp(score) for piece, score in scores.items()}
    edges = [(a, b) for a in range(n) for b in range(a + 1, n + 1) if word[a:b] in p]
    upto, after = [1.0] + [0.0] * n, [0.0] * n + [1.0]
    for start, end in edges:  # sorted by start: upto[start] is complete
        upto[end] += upto[start] * p[word[start:end]]
    for start, end in reversed(edges):
        after[start] += p[word[start:end]] * after[end]
    counts = dict.fromkeys(scores, 0.0)
    for start, end in edges:
        piece = word[start:end]
        counts[piece] += upto[start] * p[piece] * after[end] / upto[n]
    return counts
