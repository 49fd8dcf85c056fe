"""Text as the rules for numbers read it, and where an item may begin and end in any script.

Chinese, Japanese, Thai and others write no space beside a number, Korean hangs particles on it: a
boundary is a matter of Latin letters and digits alone.
"""

import re
import unicodedata
from functools import lru_cache

from llmlib.data.corpora.units import UNSPACED

STARTS = r"(?<![A-Za-z0-9])(?<![A-Za-z0-9]_)"
"""Nothing of an identifier before; a lone `_` is emphasis."""
ENDS = r"(?![A-Za-z0-9]|_[A-Za-z0-9])"
TOUCHING = UNSPACED + r"\p{Hangul}"
"""Scripts whose words touch what stands beside them, for a class of the `regex` package."""
_LONG_VOWEL = re.compile(r"(?<=\d)ー(?=\d)")  # typed for a hyphen in Japanese
_NO_HYPHENS = "—―⸺⸻〜〰"


class _Plain(dict[int, int]):
    def __missing__(self, code: int) -> int:
        letter = chr(code)
        category = unicodedata.category(letter)
        plain = code
        if 0xFF01 <= code <= 0xFF5E:  # full-width forms
            plain = code - 0xFEE0
        elif category == "Zs":
            plain = ord(" ")
        elif letter == "−" or (category == "Pd" and letter not in _NO_HYPHENS):
            plain = ord("-")
        elif category == "Nd":
            plain = ord(str(unicodedata.decimal(letter)))
        self[code] = plain
        return plain


_PLAIN = _Plain()


@lru_cache(maxsize=1)  # every rule for numbers asks for the same text in turn
def fold(text: str) -> str:
    """Write full-width forms, digits of any script, spaces and hyphens as ASCII, each in its place.

    Example:
        >>> fold("４１１１\u00a01111‑٣")
        '4111 1111-3'
    """
    if text.isascii():
        return text
    plain = text.translate(_PLAIN)
    return _LONG_VOWEL.sub("-", plain) if "ー" in plain else plain
