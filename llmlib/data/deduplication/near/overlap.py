"""Near-duplicates by shared word sequences, in one pass over a corpus."""

import hashlib
from collections.abc import Iterable

from llmlib.data.cleaning.rules.quality_rules import Dropped
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
    step = Overlapping(max_overlap, n_words)
    kept, dropped = [], []
    for document in documents:
        reason = step.reason(document)
        if reason is None:
            kept.append(document)
        else:
            dropped.append(Dropped(document=document, reason=reason))
    return kept, dropped


class Overlapping:
    """The same as a step of a cleaning pipeline.

    Memory: 8 bytes of hash, and Python's set around it, for each different sequence of words.

    Args:
        max_overlap: Largest share of sequences already seen, 0 to 1; 1 keeps everything.
        n_words: Words in a sequence.
        name: The step's name.

    Raises:
        ValueError: If `max_overlap` or `n_words` is out of range.

    Example:
        >>> step = Overlapping(0.4, n_words=2)
        >>> texts = ("one two three four", "one two three five", "six seven eight nine")
        >>> [step.reason(Document(text=text, source="x")) for text in texts]
        [None, 'near-duplicate', None]
    """

    def __init__(
        self, max_overlap: float = 0.5, n_words: int = WORDS, name: str = "near-duplicates"
    ) -> None:
        if not 0 <= max_overlap <= 1:
            raise ValueError(f"max_overlap={max_overlap} is a share of a document: 0 to 1")
        if n_words < 1:
            raise ValueError(f"n_words={n_words} must be at least 1")
        self.max_overlap = max_overlap
        self.n_words = n_words
        self.name = name
        self._seen: set[bytes] = set()

    def start(self) -> None:
        """Forget the documents of earlier runs."""
        self._seen = set()

    def reason(self, document: Document) -> str | None:
        """Say whether most of a document stood in earlier ones, kept or dropped.

        Args:
            document: The document.

        Returns:
            `near-duplicate`, or None.
        """
        sequences = _sequences(document.text, self.n_words)
        known = len(sequences & self._seen)
        self._seen |= sequences
        return "near-duplicate" if known > self.max_overlap * len(sequences) else None


def _sequences(text: str, n_words: int) -> set[bytes]:
    words = text.split()
    starts = range(max(1, len(words) - n_words + 1))
    return {_digest(" ".join(words[start : start + n_words])) for start in starts}


def _digest(sequence: str) -> bytes:
    return hashlib.blake2b(sequence.encode(), digest_size=8).digest()
