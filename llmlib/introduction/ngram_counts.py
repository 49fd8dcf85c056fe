"""Counting n-grams of integer tokens with sorted arrays instead of dictionaries.

An n-gram of order k is named by one integer: the row number of its first k-1 tokens among all
(k-1)-grams, times the number of symbols, plus its last token. The name stays below 2**63 for any
order, because a corpus of M tokens has at most M different (k-1)-grams. Counting is then one sort
per order, and looking up is one binary search.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

Tokens = np.ndarray | Sequence[int]
Documents = Tokens | Sequence[Tokens]
"""A list of arrays of tokens, one a document, or one flat array, split after each end token."""


@dataclass(frozen=True)
class PaddedTokens:
    """Documents laid end to end, each behind `order - 1` begin marks."""

    symbols: Int[np.ndarray, " positions"]
    vocab_size: int

    @property
    def is_token(self) -> np.ndarray:
        """True where a position holds a token and not a begin mark."""
        return self.symbols != self.vocab_size


def _as_tokens(tokens: Tokens, vocab_size: int) -> np.ndarray:
    array = np.asarray(tokens)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            "tokens must be integers: pass an integer array, a list of ints, or a list of those"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"tokens must lie in 0..{vocab_size - 1}, found {low if low < 0 else high}: "
            "pass the tokenizer's vocab_size"
        )
    return array.astype(np.int64, copy=False)


def split_documents(
    documents: Documents, vocab_size: int, end_token: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of all documents in one array, and the documents' lengths."""
    flat = isinstance(documents, np.ndarray) or all(
        isinstance(item, int | np.integer) for item in documents[:1]
    )
    if not flat:
        parts = [_as_tokens(part, vocab_size) for part in documents]  # pyright: ignore[reportArgumentType]
        lengths = np.array([len(part) for part in parts], dtype=np.int64)
        return np.concatenate(parts), lengths
    tokens = _as_tokens(documents, vocab_size)  # pyright: ignore[reportArgumentType]
    if end_token is None:
        return tokens, np.array([len(tokens)], dtype=np.int64)
    ends = np.flatnonzero(tokens == end_token) + 1
    bounds = np.unique(np.concatenate([[0], ends, [len(tokens)]]))
    return tokens, np.diff(bounds)


def pad_documents(
    documents: Documents, *, order: int, vocab_size: int, end_token: int | None = None
) -> PaddedTokens:
    """Lay documents end to end, each behind `order - 1` begin marks.

    Example:
        >>> pad_documents([[4, 5], [6]], order=3, vocab_size=7).symbols
        array([7, 7, 4, 5, 7, 7, 6])
    """
    tokens, lengths = split_documents(documents, vocab_size, end_token)
    pads = order - 1
    document = np.repeat(np.arange(len(lengths)), lengths)
    symbols = np.full(len(tokens) + pads * len(lengths), vocab_size, dtype=np.int64)
    symbols[np.arange(len(tokens)) + pads * (document + 1)] = tokens
    return PaddedTokens(symbols, vocab_size)


def names_of_ngrams(
    stream: PaddedTokens, context_rows: Int[np.ndarray, " positions"] | None
) -> Int[np.ndarray, " positions"]:
    """Return the integer name of the n-gram that ends at each position.

    An n-gram that ends in a token lies within its document, because `order - 1` begin marks stand
    before each. One that ends in a begin mark may reach into the document before; it is harmless,
    since begin marks are not counted.

    Args:
        context_rows: For each position the row of the (k-1)-gram that ends *there*, -1 where
            there is none; None for k = 1.

    Returns:
        The names; -1 where the n-gram would start before the stream or its context is unknown.
    """
    if context_rows is None:
        return stream.symbols
    before = np.empty_like(context_rows)
    before[:1] = -1
    before[1:] = context_rows[:-1]
    return np.where(before >= 0, before * (stream.vocab_size + 1) + stream.symbols, -1)


def find_rows(
    names: Int[np.ndarray, " grams"], wanted: Int[np.ndarray, " positions"]
) -> Int[np.ndarray, " positions"]:
    """Return the row of each wanted name in a sorted array, -1 where it is unknown.

    Example:
        >>> find_rows(np.array([3, 5, 8]), np.array([5, 4, -1]))
        array([ 1, -1, -1])
    """
    rows = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return np.where(names[rows] == wanted, rows, -1)


@dataclass(frozen=True)
class OrderCounts:
    """What was counted for one order k; row r is the k-gram named `names[r]`.

    N-grams that end in a begin mark are kept, since longer ones start with them, but they count
    zero: a begin mark is never predicted.
    """

    names: np.ndarray
    """Sorted names, context row * (vocab_size + 1) + last symbol."""
    occurrences: np.ndarray
    """c(g), how often the k-gram occurs."""
    continuations: np.ndarray
    """N1+(. g), how many different symbols precede it; for the highest order, where nothing longer
    was counted, the occurrences."""
    n_contexts: int
    """Number of (k-1)-grams."""
    vocab_size: int

    @property
    def contexts(self) -> np.ndarray:
        """The row of each n-gram's context among the (k-1)-grams."""
        return self.names // (self.vocab_size + 1)

    def totals(self, amounts: np.ndarray) -> np.ndarray:
        """Sum an amount of each n-gram over the n-grams that share its context."""
        return np.bincount(self.contexts, weights=amounts, minlength=self.n_contexts)


def count_ngrams(stream: PaddedTokens, order: int) -> list[OrderCounts]:
    """Count the n-grams of orders 1 to `order` in documents padded for this order."""
    is_token = stream.is_token
    tables: list[OrderCounts] = []
    rows: np.ndarray | None = None
    for _ in range(order):
        names = names_of_ngrams(stream, rows)
        valid = np.flatnonzero(names >= 0)
        unique, first, inverse = np.unique(names[valid], return_index=True, return_inverse=True)
        first = valid[first]
        occurrences = np.bincount(inverse[is_token[valid]], minlength=len(unique))
        if rows is not None:
            # One different (k)-gram is one different symbol in front of its last k-1 symbols.
            suffix = rows[first[is_token[first]]]
            counted = np.bincount(suffix, minlength=len(tables[-1].names))
            tables[-1] = replace(tables[-1], continuations=counted)
        rows = np.full(len(names), -1, dtype=np.int64)
        rows[valid] = inverse
        n_contexts = len(tables[-1].names) if tables else 1
        tables.append(OrderCounts(unique, occurrences, occurrences, n_contexts, stream.vocab_size))
    return tables


def count_documents(
    documents: Documents, *, order: int, vocab_size: int, end_token: int | None
) -> list[OrderCounts]:
    """Check the arguments that every model shares, and count n-grams of the orders 1 to `order`.

    Raises:
        ValueError: If an argument is out of range or the documents hold no token.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    if vocab_size < 1:
        raise ValueError(f"vocab_size must be at least 1, got {vocab_size}")
    if end_token is not None and not 0 <= end_token < vocab_size:
        raise ValueError(f"end_token must lie in 0..{vocab_size - 1}, got {end_token}")
    if len(documents) == 0:
        raise ValueError("there is no token to count: pass at least one document")
    stream = pad_documents(documents, order=order, vocab_size=vocab_size, end_token=end_token)
    if not stream.is_token.any():
        raise ValueError("there is no token to count: every document is empty")
    return count_ngrams(stream, order)
