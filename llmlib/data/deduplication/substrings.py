"""Exact substring deduplication: stretches that occur twice anywhere in a corpus are cut out.

Near-duplicate detection compares whole documents; a licence header, a signature or a paragraph
quoted in a thousand pages escapes it. Here every stretch of at least n bytes (or tokens) that
occurred before, in this document or in another, is found, wherever it begins.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Integer

from llmlib.core.suffix_array import common_prefixes, suffix_array
from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped


def repeated_symbols(
    symbols: Integer[np.ndarray, " n"] | bytes, bounds: Sequence[int], length: int
) -> Bool[np.ndarray, " n"]:
    """Mark the symbols that lie in a later copy of a stretch.

    A window of `length` symbols inside one document is a later copy if an equal window, inside one
    document too, ended before it begins. Marked is every symbol that some later copy covers; the
    first occurrence is never marked by its copies, nor does a run of one symbol consume itself.

    Args:
        symbols: All documents, one after another: bytes, or integers such as token ids.
        bounds: Document d lies between `bounds[d]` and `bounds[d + 1]`; the first bound is 0.
        length: Shortest stretch, in symbols, at least 1.

    Raises:
        ValueError: If the length is below 1 or the bounds do not span the symbols.

    Example:
        >>> text = b"one day|some day"
        >>> marks = repeated_symbols(text, [0, 8, 16], 4)
        >>> bytes(c if m else 46 for c, m in zip(text, marks))
        b'............ day'

    References:
        Lee et al. (2022), Deduplicating Training Data Makes Language Models Better, section 4.1
        (ExactSubstr; there stretches are of 50 tokens).
    """
    if length < 1:
        raise ValueError(f"length={length} must be at least one symbol")
    edges = np.asarray(bounds, np.int64)
    n = len(symbols)
    if edges[0] != 0 or edges[-1] != n or (np.diff(edges) < 0).any():
        raise ValueError(f"the bounds must rise from 0 to {n}, the number of symbols")
    order = suffix_array(symbols, depth=length)
    lengths = common_prefixes(symbols, order, limit=length)
    starts_group = lengths < length  # of windows that agree in all their symbols
    # Windows that run over the end of their document, or of the corpus, do not count.
    end = np.repeat(edges[1:], np.diff(edges))
    inside = order.astype(np.int64) + length <= end[order]
    group = np.cumsum(starts_group)[inside]
    position = order[inside].astype(np.int64)
    if not len(position):
        return np.zeros(n, bool)
    heads = np.flatnonzero(np.diff(group, prepend=-1))
    first = np.minimum.reduceat(position, heads)
    first = np.repeat(first, np.diff(np.append(heads, len(group))))
    later = position[position >= first + length]
    opened = np.bincount(later, minlength=n + 1)
    closed = np.bincount(later + length, minlength=n + 1)
    return np.cumsum(opened - closed)[:n] > 0


def remove_repeated_substrings(
    documents: Sequence[Document], min_bytes: int = 200, min_left: int = 1
) -> tuple[list[Document], list[Dropped]]:
    """Cut out of each document what stood, word for word, earlier in the corpus.

    Cuts fall between characters: a character of which only some bytes repeat stays. Memory: about
    110 bytes for each byte of text, so split a large corpus first.

    Args:
        min_bytes: Shortest stretch that is cut, in UTF-8 bytes. 200 is about 50 tokens.
        min_left: A document of which fewer characters, white space aside, are left is dropped.

    Returns:
        The documents that are left, in order, changed ones with the number of bytes cut in
        `meta["repeated_bytes"]`; and those of which too little is left, as they were.

    Example:
        >>> boilerplate = "Permission is granted to copy this text. "
        >>> texts = (boilerplate + "First.", "Second. " + boilerplate, boilerplate)
        >>> corpus = [Document(text=text, source="x") for text in texts]
        >>> kept, dropped = remove_repeated_substrings(corpus, min_bytes=30)
        >>> [document.text for document in kept][1], len(dropped)
        ('Second. ', 1)

    References:
        Lee et al. (2022), section 4.1.
    """
    encoded = [document.text.encode("utf-8", "surrogatepass") for document in documents]
    bounds = np.concatenate([[0], np.cumsum([len(data) for data in encoded], dtype=np.int64)])
    joined = np.frombuffer(b"".join(encoded), np.uint8)
    marks = _whole_characters(joined, repeated_symbols(joined, bounds.tolist(), min_bytes))
    cut = np.diff(np.concatenate([[0], np.cumsum(marks)])[bounds])
    kept, dropped = [], []
    for index, (document, n_cut) in enumerate(zip(documents, cut.tolist(), strict=True)):
        if not n_cut:
            kept.append(document)
            continue
        own = slice(bounds[index], bounds[index + 1])
        text = joined[own][~marks[own]].tobytes().decode("utf-8", "surrogatepass")
        if len("".join(text.split())) < min_left:
            dropped.append(Dropped(document=document, reason="repeats earlier text"))
        else:
            meta = document.meta | {"repeated_bytes": n_cut}
            kept.append(replace(document, text=text, meta=meta))
    return kept, dropped


def _whole_characters(data: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """Keep a mark only where all bytes of the UTF-8 character are marked."""
    first_byte = (data & 0xC0) != 0x80
    starts = np.flatnonzero(first_byte)
    if not len(starts):
        return marks
    whole = np.logical_and.reduceat(marks, starts)
    return whole[np.cumsum(first_byte) - 1]
