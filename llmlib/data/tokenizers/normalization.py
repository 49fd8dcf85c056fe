"""Bringing texts that look alike to one spelling, and what that loses.

`é` is one character or two, `ﬁ` is a ligature or two letters. A normal form makes such spellings
equal before a vocabulary is learnt; the compatibility forms also erase differences that matter
(`x²` becomes `x2`). What a tokenizer normalizes, `decode` cannot give back.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

_FORMS = ("NFC", "NFD", "NFKC", "NFKD")

SPACE = "\u2581"
"""The visible character that SentencePiece writes for a space."""


@dataclass(frozen=True)
class Normalizer:
    """Steps of normalization, in the order of the fields.

    Example:
        >>> Normalizer(form="NFKC")("ﬁ x² é")
        'fi x2 é'
        >>> Normalizer(strip_accents=True, lowercase=True)("Ångström")
        'angstrom'

    References:
        Unicode Standard Annex #15; Kudo and Richardson (2018), SentencePiece, section 3.
    """

    clean: bool = False
    """Drop control characters and U+FFFD, and turn white space into spaces, as BERT does."""

    form: str | None = None
    """Unicode normal form."""

    strip_accents: bool = False
    """Decompose and drop the combining marks."""

    lowercase: bool = False

    def __post_init__(self) -> None:
        if self.form is not None and self.form not in _FORMS:
            raise ValueError(f"form={self.form!r} must be NFC, NFD, NFKC, NFKD or None")

    def __call__(self, text: str) -> str:
        """Normalize a text."""
        if self.clean:
            text = text.translate(_CLEANED)
        if self.form is not None:
            text = unicodedata.normalize(self.form, text)  # pyright: ignore[reportArgumentType]
        if self.strip_accents and not text.isascii():
            text = unicodedata.normalize("NFD", text).translate(_UNMARKED)
        if self.lowercase:
            # A capital sigma at the end of a word has a lower case of its own; letter by letter
            # the result does not depend on where the text was cut.
            text = text.lower() if text.isascii() else text.translate(_LOWERED)
        return text

    def with_offsets(self, text: str) -> tuple[str, np.ndarray]:
        """Normalize a text and say where each character came from.

        Returns:
            The normalized text and, for each of its characters, the index in `text` at which the
            stretch begins that it was made of; one more entry, the length of `text`, at the end.

        Example:
            >>> Normalizer(form="NFKC").with_offsets("a½e")[1].tolist()
            [0, 1, 1, 1, 2, 3]
        """
        cleaned = [char.translate(_CLEANED) if self.clean else char for char in text]
        # What cleaning removes no longer keeps the marks on its two sides apart.
        origins = [place for place, char in enumerate(cleaned) for _ in char]
        parts: list[str] = []
        offsets: list[int] = []
        start = 0
        for segment in independent_segments("".join(cleaned)):
            part = self(segment)
            parts.append(part)
            offsets += [origins[start]] * len(part)
            start += len(segment)
        return "".join(parts), np.array([*offsets, len(text)], dtype=np.int64)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON can hold them."""
        return asdict(self)


BERT_UNCASED = Normalizer(clean=True, strip_accents=True, lowercase=True)
"""What BERT's uncased models do to a text before they cut it into words."""


def independent_segments(text: str) -> list[str]:
    r"""Cut a text into stretches whose normal forms, joined, are the normal form of the whole.

    Example:
        >>> [len(s) for s in independent_segments("e\u0301a")]
        [2, 1]
    """
    if text.isascii():
        return list(text)
    dependent = _joins_what_precedes()
    segments: list[str] = []
    for character in text:
        # Looked at decomposed: a half-width voice mark is no combining character until then.
        first = unicodedata.normalize("NFKD", character)[0]
        if segments and (unicodedata.combining(first) or first in dependent):
            segments[-1] += character
        else:
            segments.append(character)
    return segments


@lru_cache(maxsize=1)
def _joins_what_precedes() -> frozenset[str]:
    """Characters that canonical composition may join to the one before them."""
    joining = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}  # hangul
    for code in range(0x20000):  # beyond are ideographs and marks, none of them composed
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            joining.add(chr(int(parts[1], 16)))
    return frozenset(joining)


def byte_pieces() -> list[str]:
    """Return the names of the 256 byte tokens that stand in for characters without one.

    They are spelt as SentencePiece does.

    Example:
        >>> [byte_pieces()[byte] for byte in "湖".encode()]
        ['<0xE6>', '<0xB9>', '<0x96>']
    """
    return [f"<0x{byte:02X}>" for byte in range(256)]


def _cleaned(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category.startswith("Z"):
        return " "
    # Unassigned code points (Cn) stay: a later Unicode may have made letters of them.
    if character == "\ufffd" or category in ("Cc", "Cf", "Co", "Cs"):
        return ""
    return character


class CharacterTable(dict[int, str]):
    """A table for `str.translate`, each character's entry worked out when it first occurs.

    Example:
        >>> "abc".translate(CharacterTable(lambda c: f"{c} " if c == "b" else c))
        'ab c'
    """

    def __init__(self, entry: Callable[[str], str]) -> None:
        super().__init__()
        self._entry = entry

    def __missing__(self, code: int) -> str:
        self[code] = entry = self._entry(chr(code))
        return entry


_CLEANED = CharacterTable(_cleaned)
_UNMARKED = CharacterTable(lambda c: "" if unicodedata.category(c) == "Mn" else c)
_LOWERED = CharacterTable(str.lower)
