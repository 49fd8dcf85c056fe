"""Near-duplicates by shared word sequences, in one pass over a corpus."""

from collections.abc import Iterable

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped, keep_or_drop
from llmlib.data.corpora.units import words_of
from llmlib.data.deduplication.exact import text_digest

WORDS = 8


class Overlapping:
    """Drops documents whose word sequences mostly stood in earlier documents of the run.

    Exact deduplication misses the docstring that was copied and changed in one line. Here each
    document is the set of its sequences of `n_words` words (`words_of`); it is dropped when more
    than `max_overlap` of them were seen before, in any earlier documents together, kept or dropped.
    A document of fewer words is one sequence, and a share of 1 keeps everything.

    Memory: 8 bytes of hash, and Python's set around it, for each different sequence of words.

    Raises:
        ValueError: If `max_overlap` or `n_words` is out of range.

    Example:
        >>> step = Overlapping(0.4, n_words=2)
        >>> texts = ("one two three four", "one two three five", "six seven eight nine")
        >>> [step.reason(Document(text=text, source="x")) for text in texts]
        [None, 'near-duplicate', None]

    References:
        Brown et al. (2020), Language Models are Few-Shot Learners, appendix A (fuzzy
        deduplication of documents) and C (overlap measured in word n-grams).
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
        """Say `near-duplicate` of a document of which most stood in earlier ones."""
        words = words_of(document.text)
        starts = range(max(1, len(words) - self.n_words + 1))
        sequences = {text_digest(" ".join(words[at : at + self.n_words]), 8) for at in starts}
        known = len(sequences & self._seen)
        self._seen |= sequences
        return "near-duplicate" if known > self.max_overlap * len(sequences) else None


def drop_overlapping(
    documents: Iterable[Document], max_overlap: float = 0.5, n_words: int = WORDS
) -> tuple[list[Document], list[Dropped]]:
    """Pass a corpus through `Overlapping`; return the documents kept and those dropped."""
    step = Overlapping(max_overlap, n_words)
    return keep_or_drop((document, step.reason(document)) for document in documents)
