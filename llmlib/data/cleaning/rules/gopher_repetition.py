r"""Gopher's repetition rules: how much of a page says again what it said before.

Every rule compares a share with a bound, and all but two count characters: with $\ell_i$ the
length of word $i$ and $D$ the positions inside an n-gram that stood earlier in the page,

$$\text{share}_n = \sum_{i \in D} \ell_i \Big/ \sum_i \ell_i .$$
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int, UInt64

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import with_line_feeds, words_of

TOP_NGRAMS: dict[int, float] = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE_NGRAMS: dict[int, float] = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so no information is lost modulo 2**64


@dataclass(frozen=True, kw_only=True)
class GopherRepetition:
    """Largest shares of a page that may be repetition; the defaults are Gopher's.

    References:
        Rae et al. (2021), appendix A.1.1, "Repetition Removal", and table A1. Where the paper
        leaves it open, characters are those of the words without the spaces, the first occurrence
        of what is repeated does not count, and an n-gram that occurs once is no repetition.
    """

    lines: float = 0.30
    """Share of lines that repeat an earlier one; of paragraphs likewise."""
    paragraphs: float = 0.30
    line_characters: float = 0.20
    """Share of characters in such lines."""
    paragraph_characters: float = 0.20
    top_ngrams: Mapping[int, float] = field(default_factory=lambda: TOP_NGRAMS)
    """For each n, the share of characters in the n-gram that occurs most often."""
    duplicate_ngrams: Mapping[int, float] = field(default_factory=lambda: DUPLICATE_NGRAMS)
    """For each n, the share of characters in n-grams that occurred earlier."""
    name: str = "Gopher repetition"

    def reason(self, document: Document) -> str | None:
        r"""Say which rule a document breaks first.

        Example:
            >>> text = "This line stands here twice.\n" * 2
            >>> GopherRepetition().reason(Document(text=text, source="x"))
            'duplicate lines'
        """
        text = with_line_feeds(document.text)
        for what, parts, most, most_characters in (
            ("lines", text.split("\n"), self.lines, self.line_characters),
            ("paragraphs", text.split("\n\n"), self.paragraphs, self.paragraph_characters),
        ):
            share, characters = duplicate_shares(parts)
            if share > most:
                return f"duplicate {what}"
            if characters > most_characters:
                return f"characters in duplicate {what}"
        return self._reason_of_ngrams(words_of(text))

    def _reason_of_ngrams(self, words: list[str]) -> str | None:
        ids, lengths = _ids_and_lengths(words)
        total = max(1, int(lengths.sum()))
        grams = np.zeros(0, dtype=np.uint64)
        for n in range(1, 1 + max([0, *self.top_ngrams, *self.duplicate_ngrams])):
            grams = _longer(grams, ids, n)
            repeats = _repeats(grams)
            if not repeats.any():
                return None  # no longer n-gram can occur twice either
            top, duplicate = self.top_ngrams.get(n), self.duplicate_ngrams.get(n)
            if top is not None and _top_characters(grams, lengths, n) > top * total:
                return f"top {n}-gram"
            if duplicate is not None:
                covered = _covered(repeats, n, len(words))
                if int(lengths[covered].sum()) > duplicate * total:
                    return f"duplicate {n}-grams"
        return None


def duplicate_shares(parts: list[str]) -> tuple[float, float]:
    """Measure how many lines or paragraphs repeat an earlier one, blank ones apart.

    Returns:
        The share of the parts, and the share of their characters, that are repetitions.

    Example:
        >>> duplicate_shares(["a", "bbb", "a ", ""])
        (0.3333333333333333, 0.2)
    """
    parts = [part for part in map(str.strip, parts) if part]
    if len(set(parts)) == len(parts):
        return 0.0, 0.0
    seen: set[str] = set()
    repeated = characters = 0
    for part in parts:
        if part in seen:
            repeated += 1
            characters += len(part)
        seen.add(part)
    return repeated / len(parts), characters / sum(map(len, parts))


def top_ngram_share(words: list[str], n: int) -> float:
    """Measure the share of characters in the n-gram of words (`words_of`) that occurs most often.

    Returns:
        A share; 0 if none occurs twice. Occurrences that overlap count each in full, so it may
        exceed 1, as for one word said over and over.

    Example:
        >>> top_ngram_share("to be or not to be".split(), 2)
        0.6153846153846154
    """
    grams, lengths = _grams(words, n)
    return _top_characters(grams, lengths, n) / max(1, int(lengths.sum()))


def duplicate_ngram_share(words: list[str], n: int) -> float:
    """Measure the share of characters in n-grams that occurred earlier.

    Returns:
        From 0 to 1: a word covered by several n-grams counts once.

    Example:
        >>> duplicate_ngram_share("to be or not to be".split(), 2)
        0.3076923076923077
    """
    grams, lengths = _grams(words, n)
    covered = _covered(_repeats(grams), n, len(words))
    return int(lengths[covered].sum()) / max(1, int(lengths.sum()))


def _ids_and_lengths(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    known: dict[str, int] = {}
    ids = np.array([known.setdefault(word, len(known) + 1) for word in words], dtype=np.uint64)
    return ids, np.array([len(word) for word in words], dtype=np.int64)


def _grams(words: list[str], n: int) -> tuple[np.ndarray, np.ndarray]:
    ids, lengths = _ids_and_lengths(words)
    grams = np.zeros(0, dtype=np.uint64)
    for length in range(1, n + 1):
        grams = _longer(grams, ids, length)
    return grams, lengths


def _longer(
    grams: UInt64[np.ndarray, " shorter"], ids: UInt64[np.ndarray, " words"], n: int
) -> UInt64[np.ndarray, " longer"]:
    """Hash the n-grams, given the hashes of the (n-1)-grams."""
    if n == 1:
        return ids.copy()
    count = max(0, len(ids) - n + 1)
    return grams[:count] * _MULTIPLIER + ids[n - 1 :]


def _repeats(grams: UInt64[np.ndarray, " grams"]) -> np.ndarray:
    """True at each n-gram that stood earlier."""
    repeats = np.ones(len(grams), dtype=bool)
    repeats[np.unique(grams, return_index=True)[1]] = False
    return repeats


def _top_characters(
    grams: UInt64[np.ndarray, " grams"], lengths: Int[np.ndarray, " words"], n: int
) -> int:
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    if not len(counts) or counts.max() < 2:
        return 0
    start = first[counts.argmax()]
    return int(counts.max() * lengths[start : start + n].sum())


def _covered(repeats: np.ndarray, n: int, n_words: int) -> np.ndarray:
    """True at each word that lies in a repeated n-gram."""
    edges = np.zeros(n_words + 1, dtype=np.int64)
    starts = np.flatnonzero(repeats)
    edges[starts] += 1
    edges[starts + n] -= 1
    return np.cumsum(edges[:-1]) > 0
