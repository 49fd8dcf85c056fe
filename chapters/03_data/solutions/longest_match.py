from collections.abc import Collection


def longest_match(word: str, vocabulary: Collection[str]) -> list[str]:
    """Cut a word into the longest pieces that fit, from the left."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        mark = "##" if start else ""
        for end in range(len(word), start, -1):
            if mark + word[start:end] in vocabulary:
                break
        else:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces
