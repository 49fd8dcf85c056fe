"""Hashes of all words, or of all runs of n words or characters, of many texts at once.

A polynomial hash turns the hash of any stretch into a difference of two prefix sums, so a million
n-grams cost a few array operations whatever n is:

    S_i = sum_{j<i} h(x_j) b^j,     H(x_i ... x_{k-1}) = mix((S_k - S_i) b^{-i})   (mod 2^64)

with h a fixed random 64-bit value for each symbol, b odd (so that b has an inverse), and `mix` a
bijection that spreads the result over all bits. The hashes are the same on every machine and in
every run.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import regex
from jaxtyping import Int64, UInt64

from llmlib.data.corpora.units import UNSPACED, hidden_spans

HASHED_CHARACTERS = 1 << 18  # small enough for the arrays of a block to stay in the cache
HASHED_DOCUMENTS = 1 << 12  # a document's index within its block takes 12 bits
_BASE = 0x9E3779B97F4A7C15  # odd; 2^64 divided by the golden ratio
_INVERSE = pow(_BASE, -1, 1 << 64)
# Vowels, tones and accents; selectors of a variant are drawn as nothing.
_MARK = regex.compile(r"(?![\ufe00-\ufe0f])[\p{Mn}\p{Mc}]")


@dataclass(frozen=True, kw_only=True)
class HashedWords:
    """The words of some texts, as hashes, one text after another."""

    hashes: UInt64[np.ndarray, " words"]
    bounds: Int64[np.ndarray, " texts_and_end"]
    """Text t has the words `bounds[t]` to `bounds[t + 1]`."""
    begins: Int64[np.ndarray, " words"]
    """Where each word begins, in characters of its text."""
    ends: Int64[np.ndarray, " words"]


def mix(values: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Spread each value over all 64 bits, one to one: what comes out looks random.

    Example:
        >>> mix(np.array([0, 1], np.uint64)).tolist()
        [0, 6238072747940578789]

    References:
        Stafford (2011), Better Bit Mixing, variant 13, as used by SplitMix64 (Steele et al. 2014).
    """
    values = values ^ (values >> np.uint64(30))
    values = values * np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def stretch_hashes(
    values: UInt64[np.ndarray, " symbols"],
    begins: Int64[np.ndarray, " stretches"],
    ends: Int64[np.ndarray, " stretches"],
) -> UInt64[np.ndarray, " stretches"]:
    """Hash stretches of a sequence of symbols, in time that does not depend on their lengths.

    Two different stretches share a hash with probability about 2^-64, unless they are hundreds of
    symbols long and built to collide (Thue-Morse sequences defeat every such hash modulo 2^64).

    Args:
        values: A random value for each symbol of the sequence, equal for equal symbols.
        begins: Index of the first symbol of each stretch.
        ends: Index behind its last.

    Example:
        >>> values = mix(np.array([5, 7, 5, 7, 9], np.uint64))
        >>> a, b, c = stretch_hashes(values, np.array([0, 2, 3]), np.array([2, 4, 5]))
        >>> bool(a == b), bool(b == c)
        (True, False)
    """
    powers, inverses = _powers(1 << max(10, len(values).bit_length()))
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return mix((sums[ends] - sums[begins]) * inverses[begins])


def hashed_words(texts: list[str], kind: Literal["space", "alphanumeric"] = "space") -> HashedWords:
    """Split texts into words and hash each word.

    Args:
        texts: The texts; taken together they should not be much above a block.
        kind: "space": words are those of `words_of`, with their punctuation. "alphanumeric": words
            are runs of letters, digits and marks; in scripts without spaces a letter is a word.

    Example:
        >>> words = hashed_words(["to be, or", "to  be"])
        >>> words.bounds.tolist(), words.begins.tolist(), bool(words.hashes[0] == words.hashes[3])
        ([0, 3, 5], [0, 3, 7, 0, 4], True)
    """
    joined = "\n".join(texts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
    seen = None  # where the characters are that belong to words
    if kind == "space" and (hidden := hidden_spans(joined)):
        seen = np.delete(np.arange(len(codes)), np.concatenate([np.arange(*h) for h in hidden]))
        codes = codes[seen]
    loose = _WITHIN if kind == "space" else _OUTSIDE
    begins, ends = _word_edges(_character_classes(kind)[codes], loose)
    hashes = stretch_hashes(_symbol_values()[codes], begins, ends)
    if seen is not None:
        begins, ends = seen[begins], seen[ends - 1] + 1
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    offsets = np.concatenate([[0], np.cumsum(lengths + 1)])  # a line feed after each text
    bounds = np.searchsorted(begins, offsets)
    own_offset = np.repeat(offsets[:-1], np.diff(bounds))
    return HashedWords(
        hashes=hashes,
        bounds=bounds,
        begins=begins - own_offset,
        ends=ends - own_offset,
    )


def hashed_characters(texts: list[str]) -> HashedWords:
    """Hash each character of some texts, as if it were a word.

    Example:
        >>> hashed_characters(["ab", "", "a"]).bounds.tolist()
        [0, 2, 2, 3]
    """
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    begins = np.arange(len(codes)) - np.repeat(bounds[:-1], lengths)
    return HashedWords(
        hashes=_symbol_values()[codes], bounds=bounds, begins=begins, ends=begins + 1
    )


def ngram_hashes(
    words: HashedWords, n: int
) -> tuple[UInt64[np.ndarray, " ngrams"], Int64[np.ndarray, " ngrams"]]:
    """Hash every run of n words of each text; a text of fewer words is one run.

    Returns:
        The hashes, text after text, and for each the index of its first word in `words`.

    Raises:
        ValueError: If n is below 1.

    Example:
        >>> hashes, first = ngram_hashes(hashed_words(["a b c", "a b", "d"]), 2)
        >>> first.tolist(), bool(hashes[0] == hashes[2])
        ([0, 1, 3, 5], True)
    """
    if n < 1:
        raise ValueError(f"an n-gram has at least one word, not {n}")
    first, end = words.bounds[:-1], words.bounds[1:]
    index = np.arange(len(words.hashes))
    own_end = np.repeat(end, end - first)
    whole = index + n <= own_end
    whole[first[end > first]] = True  # the one run of a short text
    index = index[whole]
    return stretch_hashes(words.hashes, index, np.minimum(index + n, own_end[whole])), index


@lru_cache(maxsize=2)
def _powers(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The first n powers of the base and of its inverse, modulo 2^64."""
    tables = []
    for base in (_BASE, _INVERSE):
        table = np.full(n, base, np.uint64)
        table[0] = 1
        tables.append(np.cumprod(table))  # wraps, as it should
    return tables[0], tables[1]


@lru_cache(maxsize=1)
def _symbol_values() -> np.ndarray:
    """A random 64-bit value for each code point."""
    return mix(np.arange(1, 0x110001, dtype=np.uint64) * np.uint64(_BASE))


# What a character does to a word. A letter of a script without spaces is one by itself; marks go on
# from it or from a word, and so does punctuation where only white space parts words.
_OUTSIDE, _WITHIN, _ALONE, _GOES_ON = range(4)


@lru_cache(maxsize=2)
def _character_classes(kind: str) -> np.ndarray:
    """For each code point what it does to a word."""
    every = "".join(map(chr, range(0x110000)))
    letters = np.fromiter(map(str.isalnum, every), bool, len(every))
    classes = np.where(letters, _WITHIN, _OUTSIDE).astype(np.uint8)
    if kind == "space":
        classes[~letters] = _GOES_ON
        classes[ord("_")] = _WITHIN
        classes[[m.start() for m in re.finditer(r"\s", every)]] = _OUTSIDE
    else:
        classes[[m.start() for m in _MARK.finditer(every)]] = _GOES_ON
    unspaced = [m.start() for m in re.finditer(f"[{UNSPACED}]", every)]
    classes[unspaced] = np.where(letters[unspaced], _ALONE, classes[unspaced])
    return classes


def _word_edges(
    classes: np.ndarray, loose: int
) -> tuple[Int64[np.ndarray, " words"], Int64[np.ndarray, " words"]]:
    """Where words begin, and one past where they end; `loose` is what goes on from nothing."""
    goes_on = classes == _GOES_ON
    base = np.maximum.accumulate(np.where(goes_on, 0, np.arange(len(classes))))
    of_base = classes[base]
    of_base[(of_base == _OUTSIDE) | (of_base == _GOES_ON)] = loose
    effective = np.where(goes_on, of_base, classes)
    before = np.zeros_like(effective)
    before[1:] = effective[:-1]
    begins = (classes == _ALONE) | ((effective == _WITHIN) & (before != _WITHIN))
    last = (effective != _OUTSIDE) & np.append(begins[1:] | (effective[1:] == _OUTSIDE), True)
    return np.flatnonzero(begins), np.flatnonzero(last) + 1
