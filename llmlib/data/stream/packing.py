"""From documents of unequal length to one stream of tokens without padding.

Documents are concatenated, each followed by the end-of-text token, and the stream is cut into
windows wherever they fall. Nothing is wasted, but a window may begin in the middle of a document
and hold parts of several; the document number of each token says which, so that attention can be
kept within documents.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class TokenSource(Protocol):
    """A stream of tokens that can be read from anywhere: packed in memory or in shards on disk."""

    @property
    def n_tokens(self) -> int:
        """Length of the stream in tokens, separators included."""
        ...

    @property
    def starts(self) -> np.ndarray:
        """Place in the stream where each document starts, ascending."""
        ...

    def read(self, begin: int, end: int) -> np.ndarray:
        """Return the tokens from `begin` up to `end`; outside the stream is a `ValueError`."""
        ...


@dataclass(frozen=True, kw_only=True)
class PackedTokens:
    """A stream of tokens in memory."""

    tokens: np.ndarray
    """All documents, each followed by the end-of-text token."""
    starts: np.ndarray

    @property
    def n_tokens(self) -> int:
        """Length of the stream in tokens, separators included."""
        return len(self.tokens)

    def read(self, begin: int, end: int) -> np.ndarray:
        """Return a view of the tokens from `begin` up to `end`."""
        check_range(begin, end, self.n_tokens)
        return self.tokens[begin:end]


def pack(documents: Iterable[np.ndarray | Sequence[int]], end_of_text: int) -> PackedTokens:
    """Concatenate documents, each followed by the end-of-text token; empty ones are left out.

    Raises:
        ValueError: If every document is empty, the ids are not whole numbers, or the separator does
            not fit their type.

    Example:
        >>> packed = pack([[5, 6, 7], [8]], end_of_text=0)
        >>> packed.tokens.tolist(), packed.starts.tolist()
        ([5, 6, 7, 0, 8, 0], [0, 4])
        >>> document_ids(packed, 2, 6).tolist()
        [0, 0, 1, 1]
    """
    arrays = [array for document in documents if len(array := np.asarray(document))]
    if not arrays:
        raise ValueError("nothing to pack: every document is empty")
    dtype = np.result_type(*{array.dtype for array in arrays})
    if not np.issubdtype(dtype, np.integer):
        raise ValueError(f"token ids must be whole numbers, not {dtype}")
    if not np.iinfo(dtype).min <= end_of_text <= np.iinfo(dtype).max:
        raise ValueError(f"end_of_text={end_of_text} does not fit tokens of type {dtype}")
    lengths = np.array([len(array) + 1 for array in arrays])
    ends = np.cumsum(lengths)
    tokens = np.full(int(ends[-1]), end_of_text, dtype=dtype)
    starts = ends - lengths
    for start, array in zip(starts, arrays, strict=True):
        tokens[start : start + len(array)] = array
    return PackedTokens(tokens=tokens, starts=starts.astype(np.int64))


def document_ids(source: TokenSource, begin: int, end: int) -> np.ndarray:
    """Number the documents of a stretch of the stream, token by token, from the stream's first.

    Two tokens may attend to each other only if their numbers are equal, where attention is to be
    kept within documents. A separator belongs to the document that it ends.

    Raises:
        ValueError: If the range does not lie within the stream.
    """
    check_range(begin, end, source.n_tokens)
    places = np.arange(begin, end)
    return np.searchsorted(source.starts, places, side="right").astype(np.int64) - 1


def check_range(begin: int, end: int, n_tokens: int) -> None:
    """Refuse a range outside the stream, which slicing would cut silently."""
    if not 0 <= begin <= end <= n_tokens:
        raise ValueError(f"tokens {begin}..{end} do not lie within a stream of {n_tokens} tokens")
