"""Byte-pair encoding over characters, as it was first proposed, and its dropout.

The byte-level kind starts from 256 bytes and can write anything. Here the alphabet is the corpus's
characters, so a script that takes three bytes a character starts with whole ones; a character that
the corpus lacked is spelt in bytes, or unknown. Whether a symbol ends a word (`</w>`) or continues
one (`##`) can be part of it, which lets a vocabulary tell `est` in `estate` from `est` in `lowest`.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from typing_extensions import Unpack, override

from llmlib.data.tokenizers.base import check_text
from llmlib.data.tokenizers.bpe.merging import PieceMerger, rules_by_spelling
from llmlib.data.tokenizers.bpe.pair_table import learn_symbols, letters_of
from llmlib.data.tokenizers.words import (
    SPELLING_FIELDS,
    FallbackTokenizer,
    SpellingOptions,
    with_unknown,
)


class CharacterBPE(FallbackTokenizer):
    """A byte-pair tokenizer whose symbols are characters at first.

    Ids run from 0: the special tokens in the order given, the 256 bytes (with `byte_fallback`), the
    alphabet, then what each merge makes, unless it spells a token that there is already.

    Args:
        alphabet: The symbols of one character, with `end_of_word` or `continuing` where they apply.
        merges: Pairs of symbols' spellings, first to be merged first.
        end_of_word: What the last symbol of a word is marked with, such as `</w>`; decoded as a
            space.
        continuing: What all but the first symbol of a word are marked with, such as `##`.
        **options: See `SpellingOptions`.

    Raises:
        ValueError: If a merge joins what is no token yet, a symbol is given twice, or `unknown` is
            missing from the special tokens.

    Example:
        >>> bpe = CharacterBPE("abc", [("a", "b"), ("ab", "c")])
        >>> [bpe.tokens[i] for i in bpe.encode("abcab")]
        ['abc', 'ab']

    References:
        Sennrich, Haddow and Birch (2016), Neural Machine Translation of Rare Words with Subword
        Units, algorithm 1.
    """

    kind: ClassVar[str] = "character BPE"
    _fields: ClassVar[tuple[str, ...]] = (
        *("alphabet", "merges", "special_tokens", "end_of_word", "continuing"),
        *SPELLING_FIELDS,
    )

    def __init__(
        self,
        alphabet: Iterable[str],
        merges: Iterable[tuple[str, str]],
        special_tokens: Sequence[str] = (),
        *,
        end_of_word: str = "",
        continuing: str = "",
        **options: Unpack[SpellingOptions],
    ) -> None:
        super().__init__(special_tokens, **options)
        self.alphabet, self.merges = list(alphabet), [(a, b) for a, b in merges]
        self.end_of_word, self.continuing = end_of_word, continuing
        # In the engine ids are characters, counted from the alphabet's first.
        self._symbol = {letter: chr(i) for i, letter in enumerate(self.alphabet)}
        if len(self._symbol) != len(self.alphabet):
            raise ValueError("the alphabet holds a symbol twice")
        self._merger = PieceMerger(rules_by_spelling(self.merges, self._symbol, continuing))
        self._tokens += self._symbol

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
        alphabet: Sequence[str] | None = None,
        **options: Unpack[SpellingOptions],
    ) -> "CharacterBPE":
        """Learn a vocabulary of exactly `vocab_size` ids from texts, which are read once.

        Args:
            vocab_size: Number of ids wanted, special tokens, bytes and alphabet included.
            special_tokens: Texts that get the first ids; `unknown` is added if it is needed.
            min_frequency: Pairs seen fewer times are not merged; at least 1.
            alphabet: The single symbols in the order of their ids, which decides between pairs of
                equal count; by default sorted.
            **options: See `SpellingOptions`.

        Raises:
            ValueError: If the vocabulary is too small for the alphabet or larger than the texts
                allow, or a text holds a lone surrogate.
        """
        special = with_unknown(special_tokens, options)
        marks: dict[str, Any] = {"end_of_word": end_of_word, "continuing": continuing}
        empty = cls((), (), special, **marks, **options)
        words = empty.count_words(texts)
        if alphabet is None:
            alphabet = sorted({x for word in words for x in letters_of(word, **marks)})
        _, merges = learn_symbols(
            words,
            alphabet,
            vocab_size,
            reserved=empty.vocab_size,
            min_frequency=min_frequency,
            **marks,
        )
        return cls(alphabet, merges, special, **marks, **options)

    def sample(self, text: str, rng: random.Random, *, dropout: float) -> list[int]:
        """Encode with BPE-dropout: before each merge every possible one is left out by chance.

        Args:
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
        merge = partial(self._merger.merge_dropping, rng=rng, dropout=dropout)
        return [i for word in self._split(text) for i in self._ids(word, merge)]

    @override
    def _encode_word(self, word: str) -> list[int]:
        return self._ids(word, self._merger.merge)

    def _ids(self, word: str, merge: Callable[[str], str]) -> list[int]:
        """Ids of a word: stretches of known characters are merged, the others spelt."""
        ids: list[int] = []
        stretch = ""
        letters = letters_of(word, self.continuing, self.end_of_word)
        for character, letter in zip(word, letters, strict=True):
            if letter in self._symbol:
                stretch += self._symbol[letter]
                continue
            ids += [self._first + ord(symbol) for symbol in merge(stretch)]
            stretch = ""
            ids += self._spelt(character)
        return ids + [self._first + ord(symbol) for symbol in merge(stretch)]

    @override
    def _text_of(self, token: str) -> str:
        token = token.removeprefix(self.continuing)
        if self.end_of_word and token.endswith(self.end_of_word):
            token = token.removesuffix(self.end_of_word) + " "
        return token

    @override
    def _join(self, ids: list[int]) -> str:
        text = super()._join(ids)
        return text.removesuffix(" ") if self.end_of_word else text

    @classmethod
    @override
    def _from_content(cls, content: Mapping[str, Any]) -> "CharacterBPE":
        merges = [(first, second) for first, second in content["merges"]]
        return super()._from_content({**content, "merges": merges})
