"""Cutting leaked evaluation text out of training documents instead of dropping them whole."""

from collections.abc import Iterable, Sequence

import numpy as np
import regex
from jaxtyping import Int64

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped
from llmlib.data.deduplication.contamination.decontamination import (
    EvaluationIndex,
    counted_leaks,
    find_leaks,
    leak_reason,
)
from llmlib.data.deduplication.exact import Normalization, normalize_for_matching
from llmlib.data.deduplication.passages import Cut
from llmlib.data.deduplication.window_hashes import hashed_words

_FORM = Normalization(form="NFKC", white_space=False)  # as leaks are found, each space in its place


def cut_leaks(
    documents: Sequence[Document],
    items: Iterable[str],
    n_words: int = 13,
    min_words: int = 8,
    max_documents: int | None = None,
    *,
    margin: int = 200,
    min_piece: int = 200,
    max_pieces: int = 10,
) -> tuple[list[Document], list[Dropped], list[Cut]]:
    """Cut the parts of evaluation items out of training documents, with what stands round them.

    Dropping a book for one quoted question loses the book. Here the matching n-grams go, and the
    text near them, where an answer may stand; what is left of a document on either side becomes
    documents of their own.

    Args:
        items: As in `decontaminate`, with `n_words`, `min_words` and `max_documents`.
        margin: Characters that go before and after each leak, at least 0.
        min_piece: Pieces of fewer characters are given up.
        max_pieces: A document that the cuts split into more pieces is dropped whole.

    Returns:
        The documents left, in order, pieces with their number in `meta["piece"]`; those of which
        nothing is left, as they were; and the cuts in the others.

    Raises:
        ValueError: If the margin is negative.

    Example:
        >>> question = "A train leaves at nine and arrives at noon; how long does it travel?"
        >>> text = "Before it. " * 3 + question + " Three hours." + " After it." * 3
        >>> corpus = [Document(text=text, source="x")]
        >>> left, dropped, cuts = cut_leaks(corpus, [question], margin=14, min_piece=5)
        >>> [piece.text for piece in left], cuts[0].reason
        (['Before it. Before i', 'After it. After it. After it.'], 'holds evaluation item 0')

    References:
        Brown et al. (2020), appendix C (13-grams, 200 characters to either side, pieces shorter
        than 200 characters and documents of more than 10 pieces removed). Whether short pieces
        count among the ten is not said there; here they do.
    """
    if margin < 0:
        raise ValueError(f"margin={margin} is a number of characters: 0 or more")
    index = EvaluationIndex.build(items, n_words, min_words)
    by_document = counted_leaks(find_leaks(documents, index), max_documents)
    left, dropped, cuts = [], [], []
    for number, document in enumerate(documents):
        if number not in by_document:
            left.append(document)
            continue
        spans = _leaking_spans(document.text, index, by_document[number], margin)
        edges = [0, *(edge for span in spans for edge in span), len(document.text)]
        pieces = [document.text[a:b].strip() for a, b in zip(edges[::2], edges[1::2], strict=True)]
        long_enough = [piece for piece in pieces if piece and len(piece) >= min_piece]
        reason = leak_reason(by_document[number])
        if sum(map(bool, pieces)) > max_pieces:
            reason += f" in more than {max_pieces} pieces"
        elif long_enough:
            cuts += [Cut(document=document, start=a, stop=b, reason=reason) for a, b in spans]
            for k, piece in enumerate(long_enough):
                meta = document.meta | {"piece": k}
                left.append(Document(text=piece, source=document.source, meta=meta))
            continue
        dropped.append(Dropped(document=document, reason=reason))
    return left, dropped, cuts


def _leaking_spans(
    text: str, index: EvaluationIndex, items: list[int], margin: int
) -> list[tuple[int, int]]:
    """Where a text leaks some items, with a margin, in characters; joined where they touch."""
    form, begins, ends = _aligned(text)
    words = hashed_words([form], "alphanumeric")
    first, last, item, _ = index.matches(words)
    wanted = np.isin(item, items)
    starts = begins[words.begins[first[wanted]]] - margin
    stops = ends[words.ends[last[wanted]] - 1] + margin
    spans: list[tuple[int, int]] = []
    for start, stop in sorted(zip(starts.tolist(), stops.tolist(), strict=True)):
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(stop, spans[-1][1])
        else:
            spans.append((start, stop))
    return [(max(0, start), min(len(text), stop)) for start, stop in spans] or [(0, len(text))]


def _aligned(
    text: str,
) -> tuple[str, Int64[np.ndarray, " characters"], Int64[np.ndarray, " characters"]]:
    """Its form that is compared, and where each of its characters begins and ends in the text."""
    if text.isascii():
        place = np.arange(len(text))
        return text.lower(), place, place + 1
    # This equals normalizing the text whole but for sequences such as an accent parted from its
    # letter by an invisible character; a leak spelt so is not located, and its whole text is cut.
    written = regex.findall(r"\X", text)
    forms = [normalize_for_matching(cluster, _FORM) for cluster in written]
    lengths = [len(form) for form in forms]
    ends = np.cumsum([len(cluster) for cluster in written])
    begins = np.concatenate([[0], ends[:-1]])
    return "".join(forms), np.repeat(begins, lengths), np.repeat(ends, lengths)
