"""Decontamination: find evaluation text inside training text by its word n-grams.

A model that has read the answers is not tested by the questions. A leak is rarely a whole copy:
the question stands in a forum post, in capitals, without its punctuation. So both sides are
reduced to runs of letters and digits in one case, and share a leak where they share n words in a
row. `decontaminate` does it in memory, `decontaminate_file` with corpora of any size.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from llmlib.core.processes.workers import Workers
from llmlib.data.corpora.document import (
    Document,
    iterate_documents,
    save_documents,
    text_blocks,
)
from llmlib.data.corpora.dropped import Dropped, keep_or_drop
from llmlib.data.deduplication.exact import Normalization, normalize_for_matching
from llmlib.data.deduplication.window_hashes import (
    HASHED_CHARACTERS,
    HashedWords,
    hashed_words,
    ngram_hashes,
)

_FORM = Normalization(form="NFKC")  # a leak in full-width letters is a leak


@dataclass(frozen=True, kw_only=True)
class Leak:
    """An evaluation item of which a part stands in a training document."""

    document: int
    """Index of the training document."""
    item: int
    """Index of the evaluation item."""
    ngrams: int
    """How many of the item's different n-grams the document holds."""
    share: float
    """The same as a share of the item's n-grams, above 0 and up to 1."""


@dataclass(frozen=True)
class EvaluationIndex:
    """The word n-grams of evaluation items, to look training text up in.

    An item of fewer than n words is one n-gram of all its words. An item of fewer than `min_words`
    cannot be told from a common phrase: it is left out and listed in `unchecked`.
    """

    n_words: int
    """Words in an n-gram."""
    by_length: dict[int, tuple[UInt64[np.ndarray, " ngrams"], Int64[np.ndarray, " ngrams"]]]
    """For each length of n-grams in words, their hashes, ascending, and the item of each; one hash
    may belong to several items."""
    sizes: Int64[np.ndarray, " items"]
    """For each item its number of different n-grams."""
    unchecked: list[int]
    """Indices of the items that are too short."""

    @classmethod
    def build(
        cls, items: Iterable[str], n_words: int = 13, min_words: int = 8
    ) -> "EvaluationIndex":
        """Hash the n-grams of evaluation items.

        Args:
            items: The texts of an evaluation set: questions, or questions with their answers.
            n_words: Words in an n-gram; 13 is usual, 8 finds more and errs more.
            min_words: Shortest item that is looked for, 1 to `n_words`.

        Raises:
            ValueError: If `min_words` is not between 1 and `n_words`.

        Example:
            >>> index = EvaluationIndex.build(["What is it?", "one two three four"], 3, 3)
            >>> index.sizes.tolist(), index.unchecked
            ([1, 2], [])

        References:
            Brown et al. (2020), Language Models are Few-Shot Learners, appendix C (13-grams in
            lower case without punctuation; between 8 and 13 words for short data sets).
        """
        if not 1 <= min_words <= n_words:
            raise ValueError(f"min_words={min_words} must be between 1 and n_words={n_words}")
        found: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        sizes, unchecked = [], []
        for number, text in enumerate(items):
            words = _words([text])
            length = min(n_words, len(words.hashes))
            if length < min_words:
                unchecked.append(number)
                sizes.append(0)
                continue
            hashes = np.unique(ngram_hashes(words, length)[0])
            sizes.append(len(hashes))
            found.setdefault(length, []).append((hashes, np.full(len(hashes), number)))
        by_length = {}
        for length, parts in found.items():
            hashes, owner = (np.concatenate(column) for column in zip(*parts, strict=True))
            order = np.lexsort((owner, hashes))
            by_length[length] = hashes[order], owner[order]
        return cls(n_words, by_length, np.array(sizes, np.int64), unchecked)

    def matches(
        self, words: HashedWords
    ) -> tuple[
        Int64[np.ndarray, " matches"],
        Int64[np.ndarray, " matches"],
        Int64[np.ndarray, " matches"],
        UInt64[np.ndarray, " matches"],
    ]:
        """Return the n-grams found: the indices of first and last word, the item, and the hash."""
        columns = []
        for length, (hashes, owner) in self.by_length.items():
            grams, first_word = ngram_hashes(words, length)
            low = np.searchsorted(hashes, grams)
            counts = np.searchsorted(hashes, grams, side="right") - low
            hit = np.flatnonzero(counts)
            counts, low = counts[hit], low[hit]
            ends = np.cumsum(counts)
            entry = np.arange(counts.sum()) + np.repeat(low - (ends - counts), counts)
            place = np.repeat(first_word[hit], counts)
            # A text of fewer words is one shorter run, which no item's hash equals.
            columns.append((place, place + length - 1, owner[entry], hashes[entry]))
        if not columns:
            none = np.empty(0, np.int64)
            return none, none, none, np.empty(0, np.uint64)
        first, last, item, value = (np.concatenate(c) for c in zip(*columns, strict=True))
        return first, last, item, value


def find_leaks(
    documents: Iterable[Document], index: EvaluationIndex, *, workers: int = 1
) -> Iterator[Leak]:
    r"""Report which evaluation item stands in which training document.

    Args:
        documents: Training documents, read lazily: a long one is held at a time, or several short
            ones, and two such blocks for each process.
        workers: Processes; what they report does not depend on their number.

    Yields:
        One leak for each pair of a document and an item that share an n-gram, by document, then by
        item.

    Example:
        >>> index = EvaluationIndex.build(["Who wrote the long book about whales?"], 5, 5)
        >>> post = Document(text="quiz: WHO WROTE the long\nbook. About what?", source="post")
        >>> [(leak.document, leak.item, leak.ngrams) for leak in find_leaks([post], index)]
        [(0, 0, 2)]
    """
    start = 0
    with Workers(workers, index) as pool:
        blocks = text_blocks(documents, HASHED_CHARACTERS)
        for n_documents, *columns in pool.map(_leaks_of_block, blocks):
            rows = zip(*(column.tolist() for column in columns), strict=True)
            for document, item, ngrams in rows:
                share = ngrams / int(index.sizes[item])
                yield Leak(document=start + document, item=item, ngrams=ngrams, share=share)
            start += n_documents


def _leaks_of_block(
    index: EvaluationIndex, block: list[Document]
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Count the documents, and list for each leak its document, its item and how many n-grams."""
    words = _words([document.text for document in block])
    place, _, item, value = index.matches(words)
    # The text that a word lies in; texts without words make some bounds equal.
    document = np.searchsorted(words.bounds, place, side="right") - 1
    order = np.lexsort((value, item, document))
    document, item, value = document[order], item[order], value[order]
    pairs = document * len(index.sizes) + item
    new_pair = np.diff(pairs, prepend=-1) != 0
    new_value = new_pair | (value != np.roll(value, 1))
    heads = np.flatnonzero(new_pair)
    counts = np.add.reduceat(new_value, heads, dtype=np.int64) if len(heads) else heads
    return len(block), document[heads], item[heads], counts


def counted_leaks(leaks: Iterable[Leak], max_documents: int | None = None) -> dict[int, list[int]]:
    """Gather the items of leaks by document, without those that stand in too many documents.

    Args:
        max_documents: An item found in more documents than this is a common text (a proverb, a
            licence) rather than a leak, and counts for none. By default every item counts.

    Example:
        >>> places = ((0, 4), (0, 5), (3, 5))
        >>> leaks = [Leak(document=d, item=i, ngrams=1, share=1.0) for d, i in places]
        >>> counted_leaks(leaks), counted_leaks(leaks, max_documents=1)
        ({0: [4, 5], 3: [5]}, {0: [4]})
    """
    by_document: dict[int, list[int]] = {}
    for leak in leaks:
        by_document.setdefault(leak.document, []).append(leak.item)
    if max_documents is None:
        return by_document
    spread = Counter(item for items in by_document.values() for item in items)
    counted = {
        document: [item for item in items if spread[item] <= max_documents]
        for document, items in by_document.items()
    }
    return {document: items for document, items in counted.items() if items}


def decontaminate(
    documents: Sequence[Document],
    items: Iterable[str],
    n_words: int = 13,
    min_words: int = 8,
    max_documents: int | None = None,
) -> tuple[list[Document], list[Dropped], list[Leak]]:
    """Drop the training documents that hold a part of an evaluation item.

    Args:
        documents: Training documents.
        items: Texts of the evaluation set; see `EvaluationIndex.build` for `n_words` and
            `min_words`.
        max_documents: As in `counted_leaks`; the leaks that count for nothing are still reported.

    Returns:
        The documents kept, those dropped, with the items in the reason, and all leaks.

    Example:
        >>> question = "A train leaves at nine and arrives at noon; how long does it travel?"
        >>> posts = [f"As asked: {question.upper()}", "Trains leave at nine and at noon."]
        >>> corpus = [Document(text=text, source="x") for text in posts]
        >>> kept, dropped, leaks = decontaminate(corpus, [question])
        >>> len(kept), dropped[0].reason
        (1, 'holds evaluation item 0')

    References:
        Brown et al. (2020), appendix C (n-grams that occur in more than ten documents are not
        counted as leaks).
    """
    leaks = list(find_leaks(documents, EvaluationIndex.build(items, n_words, min_words)))
    counted = counted_leaks(leaks, max_documents)
    kept, dropped = keep_or_drop(_judged(documents, counted))
    return kept, dropped, leaks


def decontaminate_file(
    corpus: str | Path,
    cleaned: str | Path,
    items: Iterable[str],
    n_words: int = 13,
    min_words: int = 8,
    max_documents: int | None = None,
    *,
    workers: int = 1,
) -> dict[int, list[int]]:
    """Do to a saved corpus what `decontaminate` does to a list, whatever its length.

    Memory: the evaluation items' n-grams, some blocks of text for each process, and a number for
    each leak; the corpus passes through. What is written does not depend on the number of
    processes.

    Args:
        corpus: A file that `save_documents` wrote; it is read twice.
        cleaned: File to write the documents without leaks to.

    Returns:
        For the index of each document left out, the items that it holds.
    """
    index = EvaluationIndex.build(items, n_words, min_words)
    leaks = find_leaks(iterate_documents(corpus), index, workers=workers)
    counted = counted_leaks(leaks, max_documents)
    judged = _judged(iterate_documents(corpus), counted)
    save_documents(cleaned, (document for document, reason in judged if reason is None))
    return counted


def leak_reason(items: Iterable[int]) -> str:
    """Say which evaluation items a document holds."""
    return f"holds evaluation item {', '.join(map(str, items))}"


def _judged(
    documents: Iterable[Document], counted: Mapping[int, list[int]]
) -> Iterator[tuple[Document, str | None]]:
    for number, document in enumerate(documents):
        yield document, leak_reason(counted[number]) if number in counted else None


def _words(texts: list[str]) -> HashedWords:
    return hashed_words([normalize_for_matching(t, _FORM) for t in texts], "alphanumeric")
