"""Cutting text into the pieces within which byte-pair merges may happen.

A merge never crosses a piece: `dog.` and `dog!` both contain the piece `dog`, so the vocabulary
holds one `dog` and not one for each punctuation mark after it. A space goes with the word that
follows, so that no token is spent on it.
"""

import re
from collections.abc import Callable

import regex

PieceCut = Callable[[str], list[str]]
"""From a text to its pieces."""

# Contractions; then letters, digits or other marks, each with the space before them; then white
# space, of which a run before a word gives up its last character to that word.
GPT2_PATTERN = r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# GPT-2's pattern where each digit is a piece and so ends the white space before it.
SINGLE_DIGITS_PATTERN = (
    r"'(?:[stmd]|re|ve|ll)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")

_any_text: PieceCut = regex.compile(GPT2_PATTERN).findall

# The same cuts on ASCII text at twice the speed: the standard library's engine, no Unicode tables,
# and the commonest alternative first. (`regex` calls U+001C..U+001F no white space; nor does re.A.)
_ascii_text: PieceCut = re.compile(
    r" ?[A-Za-z]+|'(?:[stmd]|re|ve|ll)| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
).findall


def pretokenize(text: str) -> list[str]:
    """Cut a text by the pattern of GPT-2 into pieces whose concatenation it is.

    Example:
        >>> pretokenize("It's 2 a.m.,  Ann")
        ['It', "'s", ' 2', ' a', '.', 'm', '.,', ' ', ' Ann']

    References:
        Radford et al. (2019), Language Models are Unsupervised Multitask Learners, section 2.2;
        the pattern stands in the code published with it.
    """
    return _ascii_text(text) if text.isascii() else _any_text(text)


def cut_by(pattern: str) -> PieceCut:
    """Return a function that cuts at every match of a pattern, keeping what lies between.

    Raises:
        ValueError: If the pattern is not valid.

    Example:
        >>> cut_by(SINGLE_DIGITS_PATTERN)("in 1984")
        ['in', ' ', '1', '9', '8', '4']
    """
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"the pattern {pattern!r} cannot be read: {error}") from error

    def cut(text: str) -> list[str]:
        pieces, end = [], 0
        for match in compiled.finditer(text):
            if match.start() > end:
                pieces.append(text[end : match.start()])
            if match.end() > match.start():
                pieces.append(match.group())
            end = match.end()
        if end < len(text):
            pieces.append(text[end:])
        return pieces

    return cut
