"""What the tokenizers share that look for tokens inside words, after a text was normalized.

Two of them start from characters, of which some are in no corpus; these are spelt in bytes.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypedDict, TypeVar

from typing_extensions import override

from llmlib.data.tokenizers.base import (
    SavedTokenizer,
    SpelledTokenizer,
    check_special_tokens,
    checked_texts,
)
from llmlib.data.tokenizers.normalization import Normalizer, byte_pieces
from llmlib.data.tokenizers.pieces import PieceTokenizer, packed
from llmlib.data.tokenizers.words_and_digits import cut_named

_Kind = TypeVar("_Kind", bound="WordTokenizer")


class WordTokenizer(PieceTokenizer, SpelledTokenizer, SavedTokenizer):
    """A tokenizer that normalizes a text, cuts it into words and encodes each alone.

    Args:
        normalizer: What happens to a text first.
        cut: How it is then cut into words, which no token crosses (a key of `CUTS`).
    """

    _fields: ClassVar[tuple[str, ...]]  # arguments that decide the ids, in the file's order

    def __init__(self, normalizer: Normalizer, cut: str) -> None:
        super().__init__()
        self.normalizer, self.cut = normalizer, cut
        self._cut = cut_named(cut)

    @abstractmethod
    def _encode_word(self, word: str) -> list[int]:
        """Ids of one word."""

    @override
    def _split(self, text: str) -> list[str]:
        return self._cut(self.normalizer(text))

    @override
    def _encode_piece(self, piece: str) -> bytes:
        return packed(self._encode_word(piece))

    def count_words(self, texts: Iterable[str]) -> Counter[str]:
        """Count the words of a corpus, which is read once.

        Raises:
            ValueError: If it is one string or a text holds a lone surrogate.
        """
        words: Counter[str] = Counter()
        for text in checked_texts(texts):
            words.update(self._split(text))
        return words

    @override
    def _content(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._fields} | {
            "special_tokens": list(self.special_tokens),
            "normalizer": self.normalizer.as_dict(),
        }

    @classmethod
    @override
    def _from_content(cls: type[_Kind], content: Mapping[str, Any]) -> _Kind:
        return cls(**{**content, "normalizer": Normalizer(**content["normalizer"])})


class SpellingOptions(TypedDict, total=False):
    """How a tokenizer that starts from characters takes a text."""

    byte_fallback: bool
    """Spell a character without a token in bytes (default) instead of `unknown`."""

    unknown: str
    """The token of such a character without `byte_fallback`; by default `<unk>`."""

    normalizer: Normalizer | None
    """What happens to a text first; by default nothing."""

    cut: str
    """How it is then cut into words, which no token crosses (a key of `CUTS`); by default gpt2."""


SPELLING_FIELDS = tuple(SpellingOptions.__annotations__)


class FallbackTokenizer(WordTokenizer):
    """A tokenizer whose first ids are the special tokens and (with `byte_fallback`) the 256 bytes.

    Lossless with `byte_fallback`, a cut that loses nothing and no normalizer. Without
    `byte_fallback` one of the special tokens must be `unknown`.
    """

    def __init__(
        self,
        special_tokens: Sequence[str],
        *,
        byte_fallback: bool = True,
        unknown: str = "<unk>",
        normalizer: Normalizer | None = None,
        cut: str = "gpt2",
    ) -> None:
        super().__init__(normalizer or Normalizer(), cut)
        check_special_tokens(special_tokens)
        self.special_tokens = {token: i for i, token in enumerate(special_tokens)}
        if not byte_fallback and unknown not in self.special_tokens:
            raise ValueError(f"without byte_fallback {unknown!r} must be a special token")
        self.byte_fallback, self.unknown = byte_fallback, unknown
        self._tokens = list(special_tokens) + (byte_pieces() if byte_fallback else [])
        self._first_byte, self._first = len(special_tokens), len(self._tokens)

    def _spelt(self, character: str) -> tuple[int, ...]:
        """Ids of a character without a token."""
        if not self.byte_fallback:
            return (self.special_tokens[self.unknown],)
        return tuple(self._first_byte + byte for byte in character.encode())

    def _text_of(self, token: str) -> str:
        """What a token that is neither special nor a byte writes."""
        return token

    @override
    def _join(self, ids: list[int]) -> str:
        data = b""
        for i in ids:
            if i >= self._first:
                data += self._text_of(self._tokens[i]).encode()
            elif i < self._first_byte:
                data += self._tokens[i].encode()
            else:
                data += bytes([i - self._first_byte])
        return data.decode("utf-8", errors="replace")


def with_unknown(special_tokens: Sequence[str], options: SpellingOptions) -> Sequence[str]:
    """Add the unknown token where a tokenizer of these options needs it."""
    unknown = options.get("unknown", "<unk>")
    if options.get("byte_fallback", True) or unknown in special_tokens:
        return special_tokens
    check_special_tokens(special_tokens)
    return [*special_tokens, unknown]
