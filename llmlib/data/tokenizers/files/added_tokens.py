"""Tokens that a published vocabulary adds to what its merges make, found in a text as a whole."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import regex

_is_word = regex.compile(r"\w").match
_is_blank = regex.compile(r"\s").match
_FIELDS = {"id", "content", "special", "normalized", "single_word", "lstrip", "rstrip"}


@dataclass(frozen=True, kw_only=True)
class AddedToken:
    """A token that stands outside the merges, as `tokenizer.json` describes it."""

    text: str
    id: int

    special: bool = True
    """Counts only where `encode` is told to allow it; any other counts wherever it stands."""

    normalized: bool = False
    """Looked for in the normalized text, itself normalized, and not in the text as it came."""

    single_word: bool = False
    """Counts only where no letter, digit or underscore stands beside it."""

    lstrip: bool = False
    """Takes the white space before it."""

    rstrip: bool = False
    """Takes the white space after it."""

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], special: Collection[str] = ()) -> "AddedToken":
        """Read an entry of `added_tokens`.

        Args:
            special: Texts of tokens that are special whatever the entry says.

        Raises:
            ValueError: If it has a field that is not known.
        """
        unknown = sorted(entry.keys() - _FIELDS)
        if unknown:
            raise ValueError(f"the added token {entry.get('content')!r} has {unknown}: not known")
        text = entry["content"]
        fields = {name: bool(entry.get(name)) for name in _FIELDS - {"id", "content"}}
        fields["special"] |= text in special
        return cls(text=text, id=entry["id"], **fields)


class AddedTokenSplitter:
    """Cuts a text round added tokens; of two that start together the longer counts.

    Example:
        >>> mask = AddedToken(text="<m>", id=7, lstrip=True)
        >>> AddedTokenSplitter({"<m>": mask}).split("a <m>b")
        ['a', 7, 'b']
    """

    def __init__(self, tokens: Mapping[str, AddedToken]) -> None:
        self._tokens = dict(tokens)
        texts = sorted(tokens, key=len, reverse=True)
        self._find = regex.compile("|".join(map(regex.escape, texts)))

    def split(self, text: str) -> Iterable[str | int]:
        """Return the ids of the tokens found and what lies between them, no text empty."""
        if not self._tokens:
            return [text] if text else []
        parts: list[str | int] = []
        end = 0
        for match in self._find.finditer(text):
            token = self._tokens[match.group()]
            start, stop = match.span()
            if token.single_word and (_is_word(text[start - 1 : start]) or _is_word(text, stop)):
                continue
            while token.lstrip and start > end and _is_blank(text[start - 1]):
                start -= 1
            while token.rstrip and _is_blank(text, stop):
                stop += 1
            if start > end:
                parts.append(text[end:start])
            parts.append(token.id)
            end = stop
        if end < len(text):
            parts.append(text[end:])
        return parts
