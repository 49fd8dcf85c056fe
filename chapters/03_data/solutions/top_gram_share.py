from collections import Counter


def top_gram_share(words: list[str], n: int) -> float:
    """Measure the share of a page's characters in the occurrences of its commonest n-gram."""
    grams = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    if not grams:
        return 0.0
    gram, count = grams.most_common(1)[0]
    return count * sum(map(len, gram)) / sum(map(len, words)) if count > 1 else 0.0
