def shingle_jaccard(a: str, b: str, n: int) -> float:
    """Measure what share of the runs of n words in either text stands in both."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    first, second = shingles(a), shingles(b)
    return len(first & second) / len(first | second)
