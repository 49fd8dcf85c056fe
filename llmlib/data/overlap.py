"""Near-duplicates by shared word sequences, in one pass over a corpus."""

import hashlib
from collections.abc import Iterable

from llmlib.data.cleaning import Dropped
from llmlib.data.corpora.document import Document

WORDS = 8


def drop_overlapping(
    documents: Iterable[Document], max_overlap: float = 0.5, n_words: int = WORDS
) -> tuple[list[Document], list[Dropped]]:
    """Drop documents whose word sequences mostly stood in earlier documents.

    Exact deduplication misses the docstring that was copied and changed in one line. Here each
    document is the set of its `n_words`-word sequences; it is dropped when more than `max_overlap`
    of them were seen before, in any earlier documents together, kept or dropped. A document of
    fewer words is one sequence.

    Args:
        documents: The corpus.
        max_overlap: Largest share of sequences already seen, 0 to 1; 1 keeps everything.
        n_words: Words in a sequence.

    Returns:
        The documents kept, in order, and those dropped.

    Raises:
        ValueError: If `max_overlap` or `n_words` is out of range.

    Example:
        >>> texts = ("one two three four", "one two three five", "six seven eight nine")
        >>> corpus = [Document(text=text, source="x") for text in texts]
        >>> kept, dropped = drop_overlapping(corpus, max_overlap=0.4, n_words=2)
        >>> [document.text for document in kept]
        ['one two three four', 'six seven eight nine']

    References:
        Brown et al. (2020), Language Models are Few-Shot Learners, appendix A (fuzzy
        deduplication of documents) and C (overlap measured in word n-grams).
    """
    if not 0 <= max_overlap <= 1:
        raise ValueError(f"max_overlap={max_overlap} is a share of a document: 0 to 1")
    if n_words < 1:
        raise ValueError(f"n_words={n_words} must be at least 1")
    seen: set[bytes] = set()
    kept, dropped = [], []
    for document in documents:
        sequences = _sequences(document.text, n_words)
        if len(sequences & seen) > max_overlap * len(sequences):
            dropped.append(Dropped(document=document, reason="near-duplicate"))
        else:
            kept.append(document)
        seen |= sequences
    return kept, dropped


def _sequences(text: str, n_words: int) -> set[bytes]:
    words = text.split()
    starts = range(max(1, len(words) - n_words + 1))
    return {_digest(" ".join(words[start : start + n_words])) for start in starts}


def _digest(sequence: str) -> bytes:
    return hashlib.blake2b(sequence.encode(), digest_size=8).digest()
