import math
from collections.abc import Mapping


def best_cut(word: str, scores: Mapping[str, float]) -> tuple[list[str], float]:
    """Find the likeliest way of cutting a word: its pieces and its log-probability."""
    best = [0.0] + [-math.inf] * len(word)
    start_of = [0] * (len(word) + 1)
    for end in range(1, len(word) + 1):
        for start in range(end):
            value = best[start] + scores.get(word[start:end], -math.inf)
            if value > best[end]:
                best[end], start_of[end] = value, start
    pieces: list[str] = []
    end = len(word)
    while end:
        pieces.append(word[start_of[end] : end])
        end = start_of[end]
    return pieces[::-1], best[-1]
