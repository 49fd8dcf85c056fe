"""Cutting a text into words before subwords are looked for inside them."""

import unicodedata
from collections.abc import Iterable
from string import punctuation

from llmlib.data.tokenizers.normalization import CharacterTable
from llmlib.data.tokenizers.pretokenization import (
    SINGLE_DIGITS_PATTERN,
    PieceCut,
    cut_by,
    pretokenize,
)

# Blocks of Chinese characters that BERT sets apart; kana and hangul are not among them.
_CJK = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),  # Hugging Face's Rust code begins this block at 2B920
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def bert_words(text: str) -> list[str]:
    """Cut at white space, and round every punctuation mark and Chinese character.

    Example:
        >>> bert_words("don't 学习 C++")
        ['don', "'", 't', '学', '习', 'C', '+', '+']

    References:
        Devlin et al. (2019), BERT, section 3; the rules stand in the code published with it.
    """
    return text.translate(_SPACED).split()


def _spaced(character: str) -> str:
    # The ASCII marks that Unicode calls symbols, such as $ and +, are punctuation to BERT.
    mark = character in punctuation or unicodedata.category(character).startswith("P")
    chinese = any(first <= ord(character) <= last for first, last in _CJK)
    return f" {character} " if mark or chinese else character


_SPACED = CharacterTable(_spaced)

CUTS: dict[str, PieceCut] = {
    "gpt2": pretokenize,
    "gpt2-digits": cut_by(SINGLE_DIGITS_PATTERN),
    "whitespace": str.split,
    "bert": bert_words,
    "none": lambda text: [text] if text else [],
}
"""Ways of cutting by name, as a saved tokenizer names them. "gpt2", "gpt2-digits" (each digit a
word) and "none" lose nothing; "whitespace" and "bert" lose the white space."""


def cut_named(name: str) -> PieceCut:
    """Return the way of cutting of that name in `CUTS`.

    Raises:
        ValueError: If there is none.
    """
    if name not in CUTS:
        raise ValueError(f"cut={name!r} is not known; choose one of {sorted(CUTS)}")
    return CUTS[name]


def split_digits(pieces: Iterable[str]) -> list[str]:
    """Cut every digit off from its neighbours, so that no token spells a longer number.

    Example:
        >>> split_digits([" 1984", "b2"])
        [' ', '1', '9', '8', '4', 'b', '2']

    References:
        Touvron et al. (2023), LLaMA, section 2.1: all numbers are split into single digits.
    """
    out: list[str] = []
    for piece in pieces:
        start = 0
        for at, character in enumerate(piece):
            if character.isdecimal():
                out += [piece[start:at], character]
                start = at + 1
        out.append(piece[start:])
    return [piece for piece in out if piece]
