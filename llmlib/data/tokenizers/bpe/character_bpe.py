"""Byte-pair encoding over characters, as it was first proposed, and its dropout.

The byte-level kind starts from 256 bytes and can write anything. Here the alphabet is the corpus's
characters, so a script that takes three bytes a character starts with whole ones; a character that
the corpus lacked is spelt in bytes, or unknown. Whether a symbol ends a word (`</w>`) or continues
one (`##`) can be part of it, which lets a vocabulary tell `est` in `estate` from `est` in `lowest`.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from llmlib.data.tokenizers.base import (
    BaseTokenizer,
    PieceCache,
    check_special_tokens,
    check_text,
    checked_texts,
)
from llmlib.data.tokenizers.bpe.merging import PieceEncoder
from llmlib.data.tokenizers.bpe.pair_table import PairTable, by_count
from llmlib.data.tokenizers.cutting import cut_named
from llmlib.data.tokenizers.normalization import Normalizer, byte_pieces


class CharacterBPE(BaseTokenizer):
    """A byte-pair tokenizer whose symbols are characters at first.

    Ids run from 0: the special tokens in the order given, the 256 bytes (with `byte_fallback`), the
    alphabet, then what each merge makes, unless it spells a token that there is already. Lossless
    with `byte_fallback`, a cut that loses nothing and no normalizer.

    Args:
        alphabet: The symbols of one character, with `end_of_word` or `continuing` where they apply.
        merges: Pairs of symbols' spellings, first to be merged first.
        special_tokens: Texts that get the first ids; without `byte_fallback` one is `unknown`.
        end_of_word: What the last symbol of a word is marked with, such as `</w>`; decoded as a
            space.
        continuing: What all but the first symbol of a word are marked with, such as `##`.
        byte_fallback: Spell a character outside the alphabet in bytes instead of `unknown`.
        unknown: The token of such a character without `byte_fallback`.
        normalizer: What happens to a text first.
        cut: How it is then cut into words, which no merge crosses (a key of `CUTS`).

    Raises:
        ValueError: If a merge joins what is no token yet, a symbol is given twice, or `unknown` is
            missing from the special tokens.

    Example:
        >>> bpe = CharacterBPE("abc", [("a", "b"), ("ab", "c")])
        >>> [bpe.tokens[i] for i in bpe.encode("abcab")]
        ['abc', 'ab']

    References:
        Sennrich, Haddow and Birch (2016), Neural Machine Translation of Rare Words with Subword
        Units, algorithm 1; Provilkov, Emelianenko and Voita (2020), BPE-Dropout, algorithm 1.
    """

    kind: ClassVar[str] = "character BPE"

    def __init__(
        self,
        alphabet: Iterable[str],
        merges: Iterable[tuple[str, str]],
        special_tokens: Sequence[str] = (),
        *,
        end_of_word: str = "",
        continuing: str = "",
        byte_fallback: bool = True,
        unknown: str = "<unk>",
        normalizer: Normalizer | None = None,
        cut: str = "gpt2",
    ) -> None:
        check_special_tokens(special_tokens)
        self.special_tokens = {token: i for i, token in enumerate(special_tokens)}
        if not byte_fallback and unknown not in self.special_tokens:
            raise ValueError(f"without byte_fallback {unknown!r} must be a special token")
        self.alphabet, self.merges = list(alphabet), [(a, b) for a, b in merges]
        self.end_of_word, self.continuing = end_of_word, continuing
        self.byte_fallback, self.unknown = byte_fallback, unknown
        self.normalizer, self.cut = normalizer or Normalizer(), cut
        self._tokens = list(special_tokens) + (byte_pieces() if byte_fallback else [])
        self._first_byte, self._first = len(special_tokens), len(self._tokens)
        # In the engine ids are characters, counted from the alphabet's first.
        self._symbol = {letter: chr(i) for i, letter in enumerate(self.alphabet)}
        if len(self._symbol) != len(self.alphabet):
            raise ValueError("the alphabet holds a symbol twice")
        self._tokens += self.alphabet
        rules = [self._rule(first, second) for first, second in self.merges]
        self._rank = {pair: rank for rank, (pair, _) in enumerate(rules)}
        self._rules = rules
        self._merge = PieceEncoder(rules).merge
        self._cut = cut_named(cut)
        self._words = PieceCache(lambda word: self._ids(word, self._merge))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        min_frequency: int = 1,
        end_of_word: str = "",
        continuing: str = "",
        byte_fallback: bool = True,
        unknown: str = "<unk>",
        normalizer: Normalizer | None = None,
        cut: str = "gpt2",
        alphabet: Sequence[str] | None = None,
    ) -> "CharacterBPE":
        """Learn a vocabulary from texts.

        Args:
            texts: The corpus; read once, words are kept with their counts.
            vocab_size: Number of ids wanted, special tokens, bytes and alphabet included.
            special_tokens: Texts that get the first ids; `unknown` is added if it is needed.
            min_frequency: Pairs seen fewer times are not merged; at least 1.
            end_of_word: Mark of the last symbol of a word.
            continuing: Mark of all but the first symbol of a word.
            byte_fallback: Spell a character outside the alphabet in bytes instead of `unknown`.
            unknown: The token of such a character without `byte_fallback`.
            normalizer: What happens to a text first.
            cut: How it is then cut into words, which no merge crosses (a key of `CUTS`).
            alphabet: The single symbols in the order of their ids, which decides between pairs of
                equal count; by default sorted.

        Returns:
            The tokenizer, with exactly `vocab_size` ids.

        Raises:
            ValueError: If the vocabulary is too small for the alphabet or larger than the texts
                allow, or a text holds a lone surrogate.
        """
        check_special_tokens(special_tokens)
        if min_frequency < 1:
            raise ValueError(f"min_frequency={min_frequency} must be at least 1")
        special = [*special_tokens]
        if not byte_fallback and unknown not in special:
            special.append(unknown)
        normal, cut_words = normalizer or Normalizer(), cut_named(cut)
        words: Counter[str] = Counter()
        for text in checked_texts(texts):
            words.update(cut_words(normal(text)))
        spelt = {word: _letters(word, end_of_word, continuing) for word in words if word}
        if alphabet is None:
            alphabet = sorted({letter for letters in spelt.values() for letter in letters})
        reserved = len(special) + (256 if byte_fallback else 0)
        if vocab_size < reserved + len(alphabet):
            raise ValueError(
                f"vocab_size={vocab_size} is too small: {reserved} special tokens and bytes and "
                f"{len(alphabet)} characters need {reserved + len(alphabet)}"
            )
        merges, n_symbols = _learn(
            list(spelt.values()),
            [words[word] for word in spelt],
            alphabet,
            vocab_size - reserved,
            (continuing, min_frequency),
        )
        if reserved + n_symbols < vocab_size:
            raise ValueError(
                f"vocab_size={vocab_size} is larger than the text allows: no pair is left that "
                f"occurs {min_frequency} times. Use at most vocab_size={reserved + n_symbols}, or "
                "more text."
            )
        return cls(
            alphabet,
            merges,
            special,
            end_of_word=end_of_word,
            continuing=continuing,
            byte_fallback=byte_fallback,
            unknown=unknown,
            normalizer=normal,
            cut=cut,
        )

    def sample(self, text: str, rng: random.Random, *, dropout: float) -> list[int]:
        """Encode with BPE-dropout: before each merge every possible one is left out by chance.

        Args:
            text: Any text without lone surrogates.
            rng: Source of chance.
            dropout: Probability with which a merge is left out of one step, from 0 (the ids of
                `encode`) to 1 (single characters).

        Returns:
            The ids; they decode to what those of `encode` decode to.

        Raises:
            ValueError: If `dropout` is no probability.
        """
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout={dropout} must lie between 0 and 1")
        check_text(text)
        merge = partial(self._merge_dropping, rng=rng, dropout=dropout)
        words = self._cut(self.normalizer(text))
        return [i for word in words for i in self._ids(word, merge)]

    def _merge_dropping(self, symbols: str, rng: random.Random, dropout: float) -> str:
        while True:
            possible = [
                (self._rank[a + b], at)
                for at, (a, b) in enumerate(pairwise(symbols))
                if a + b in self._rank and rng.random() >= dropout
            ]
            if not possible:
                return symbols
            rank, at = min(possible)
            symbols = symbols[:at] + self._rules[rank][1] + symbols[at + 2 :]

    def _rule(self, first: str, second: str) -> tuple[str, str]:
        if first not in self._symbol or second not in self._symbol:
            raise ValueError(f"the merge of {first!r} and {second!r} joins what is no token yet")
        joined = first + second.removeprefix(self.continuing)
        if joined not in self._symbol:
            self._symbol[joined] = chr(len(self._symbol))
            self._tokens.append(joined)
        return self._symbol[first] + self._symbol[second], self._symbol[joined]

    def _encode_ordinary(self, text: str) -> np.ndarray:
        return self._words.encode(self._cut(self.normalizer(text)))

    def _ids(self, word: str, merge: Callable[[str], str]) -> list[int]:
        """Ids of a word: stretches of known characters are merged, the others spelt."""
        ids: list[int] = []
        stretch = ""
        for character, letter in zip(
            word, _letters(word, self.end_of_word, self.continuing), strict=True
        ):
            if letter in self._symbol:
                stretch += self._symbol[letter]
                continue
            ids += [self._first + ord(symbol) for symbol in merge(stretch)]
            stretch = ""
            if self.byte_fallback:
                ids += [self._first_byte + byte for byte in character.encode()]
            else:
                ids.append(self.special_tokens[self.unknown])
        return ids + [self._first + ord(symbol) for symbol in merge(stretch)]

    def _join(self, ids: list[int]) -> str:
        data = b""
        for i in ids:
            if self.byte_fallback and 0 <= i - self._first_byte < 256:
                data += bytes([i - self._first_byte])
                continue
            token = self._tokens[i]
            if i >= self._first:
                token = token.removeprefix(self.continuing)
                if self.end_of_word and token.endswith(self.end_of_word):
                    token = token.removesuffix(self.end_of_word) + " "
            data += token.encode()
        text = data.decode("utf-8", errors="replace")
        return text.removesuffix(" ") if self.end_of_word else text

    def _content(self) -> dict[str, Any]:
        return {
            "alphabet": self.alphabet,
            "merges": [list(merge) for merge in self.merges],
            "special_tokens": list(self.special_tokens),
            "end_of_word": self.end_of_word,
            "continuing": self.continuing,
            "byte_fallback": self.byte_fallback,
            "unknown": self.unknown,
            "normalizer": self.normalizer.as_dict(),
            "cut": self.cut,
        }

    @classmethod
    def _from_content(cls, content: Mapping[str, Any]) -> "CharacterBPE":
        return cls(
            content["alphabet"],
            [(first, second) for first, second in content["merges"]],
            content["special_tokens"],
            end_of_word=content["end_of_word"],
            continuing=content["continuing"],
            byte_fallback=content["byte_fallback"],
            unknown=content["unknown"],
            normalizer=Normalizer(**content["normalizer"]),
            cut=content["cut"],
        )


def _letters(word: str, end_of_word: str, continuing: str) -> list[str]:
    """The symbols of one character that a word starts as."""
    letters = [word[0], *[continuing + c for c in word[1:]]] if word else []
    if end_of_word and letters:
        letters[-1] += end_of_word
    return letters


def _learn(
    spelt: Sequence[Sequence[str]],
    weights: Sequence[int],
    alphabet: Sequence[str],
    n_symbols: int,
    rule: tuple[str, int],
) -> tuple[list[tuple[str, str]], int]:
    """The merges, commonest pair first, and the number of symbols that they lead to."""
    continuing, min_frequency = rule
    names = list(alphabet)
    ids = {letter: i for i, letter in enumerate(names)}
    words = ["".join([chr(ids[letter]) for letter in letters]) for letters in spelt]
    table = PairTable(words, weights, len(names))
    merges: list[tuple[str, str]] = []
    while len(names) < n_symbols:
        pair = table.best(by_count, min_frequency)
        if pair is None:
            break
        first, second = names[pair[0]], names[pair[1]]
        joined = first + second.removeprefix(continuing)
        new = ids.setdefault(joined, len(names))
        if new == len(names):
            names.append(joined)
        merges.append((first, second))
        table.merge(pair, new)
    return merges, len(names)
