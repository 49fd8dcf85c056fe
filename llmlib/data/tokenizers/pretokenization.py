"""Cutting text into the pieces within which byte-pair merges may happen.

A merge never crosses a piece: `dog.` and `dog!` both contain the piece `dog`, so the vocabulary
holds one `dog` and not one for each punctuation mark after it. A space goes with the word that
follows, so that no token is spent on it.
"""

import re
from collections.abc import Callable

import regex

# Contractions; then letters, digits or other marks, each with the space before them; then white
# space, of which a run before a word gives up its last character to that word.
GPT2_PATTERN = r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

_any_text: Callable[[str], list[str]] = regex.compile(GPT2_PATTERN).findall

# The same cuts on ASCII text at twice the speed: the standard library's engine, no Unicode tables,
# and the commonest alternative first. (`regex` calls U+001C..U+001F no white space; nor does re.A.)
_ascii_text: Callable[[str], list[str]] = re.compile(
    r" ?[A-Za-z]+|'(?:[stmd]|re|ve|ll)| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
).findall


def pretokenize(text: str) -> list[str]:
    """Cut a text into pieces by the pattern of GPT-2.

    Args:
        text: Any string.

    Returns:
        Pieces whose concatenation is the text.

    Example:
        >>> pretokenize("It's 2 a.m.,  Ann")
        ['It', "'s", ' 2', ' a', '.', 'm', '.,', ' ', ' Ann']

    References:
        Radford et al. (2019), Language Models are Unsupervised Multitask Learners, section 2.2;
        the pattern stands in the code published with it.
    """
    return _ascii_text(text) if text.isascii() else _any_text(text)
