"""What the tokenizers share: special tokens, batches, files and clear refusals."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from typing_extensions import override

from llmlib.core.files import atomic_write

_VERSION = 1
_Kind = TypeVar("_Kind", bound="SavedTokenizer")


class BaseTokenizer(ABC):
    """A tokenizer in terms of how it encodes a text in which nothing is special.

    Attributes:
        special_tokens: Ids by text of the tokens that ordinary text never gives.
    """

    special_tokens: dict[str, int]

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """One more than the largest id, special tokens included."""

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds every id: uint16 or uint32."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    @abstractmethod
    def _encode_ordinary(self, text: str) -> np.ndarray:
        """Ids of a text without lone surrogates in which nothing is special."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text, special tokens spelt out.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            allowed_special: Special tokens that count as such where they stand in the text. By
                default none does, so text from a stranger cannot end a document or a turn.

        Raises:
            ValueError: If the text holds a lone surrogate or a name in `allowed_special` is no
                special token of this tokenizer.
        """
        check_text(text)
        return self._encode_round(text, allowed_special, self._encode_ordinary)

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Turn texts into arrays of ids of type `dtype`; special tokens in them are ordinary text.

        Raises:
            ValueError: If a text holds a lone surrogate (its number is named).
        """
        dtype = self.dtype
        checked = _checked(texts, "batch")
        return [self._encode_ordinary(text).astype(dtype) for text in checked]

    def _encode_round(
        self, text: str, special: Collection[str], encode: Callable[[str], np.ndarray]
    ) -> list[int]:
        """Ids of the special tokens named and of what lies between them."""
        ids: list[int] = []
        for part in split_special(text, special, self.special_tokens):
            if part in special:
                ids.append(self.special_tokens[part])
            else:
                ids += encode(part).tolist()
        return ids


class SpelledTokenizer(BaseTokenizer):
    """A tokenizer each of whose ids has a spelling."""

    _tokens: list[str]

    @abstractmethod
    def _join(self, ids: list[int]) -> str:
        """Text of ids that all exist."""

    @property
    def tokens(self) -> list[str]:
        """The spelling of each id, in order of ids."""
        return list(self._tokens)

    @property
    @override
    def vocab_size(self) -> int:
        return len(self._tokens)

    @override
    def decode(self, ids: Iterable[int]) -> str:
        known = range(self.vocab_size)
        checked = [index(i) for i in ids]
        for i in checked:
            if i not in known:
                raise unknown_id(i, self.vocab_size)
        return self._join(checked)


class SavedTokenizer(BaseTokenizer):
    """A tokenizer that is kept in a JSON file of its own format."""

    kind: ClassVar[str]  # names the format

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """Everything that decides the ids, as JSON can hold it."""

    @classmethod
    @abstractmethod
    def _from_content(cls: type[_Kind], content: Mapping[str, Any]) -> _Kind:
        """The tokenizer whose `_content` this is."""

    @property
    def sha256(self) -> str:
        """Hash of all that decides the ids: equal for tokenizers that give equal ids."""
        return hashlib.sha256(json.dumps(self._content()).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON, whole or not at all."""
        head = {"format": f"llmlib {self.kind}", "version": _VERSION, "sha256": self.sha256}
        atomic_write(path, json.dumps(head | self._content(), ensure_ascii=False) + "\n")

    @classmethod
    def load(cls: type[_Kind], path: str | Path) -> _Kind:
        """Read a tokenizer that `save` wrote.

        Raises:
            ValueError: If the file is cut short, changed, of another kind or of a later version.
        """
        try:
            content = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is cut short or is not a saved tokenizer: {error}") from error
        name = f"llmlib {cls.kind}"
        if not isinstance(content, dict) or content.pop("format", None) != name:
            raise ValueError(f"{path} is not a saved {cls.__name__} (no format {name!r})")
        version, sha256 = content.pop("version", None), content.pop("sha256", None)
        if version != _VERSION:
            raise ValueError(
                f"{path} has version {version} of the format; this release reads version {_VERSION}"
            )
        try:
            tokenizer = cls._from_content(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a whole tokenizer: {error}") from error
        if tokenizer.sha256 != sha256:
            raise ValueError(f"{path} has been changed since it was saved (its SHA-256 differs)")
        return tokenizer


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot write.

    Raises:
        ValueError: If it holds a lone surrogate.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds a lone surrogate (U+{ord(text[error.start]):04X}), which UTF-8 cannot "
            'write; read the file with errors="replace", or clean the text with '
            'text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
        ) from error


def checked_texts(texts: Iterable[str]) -> Iterable[str]:
    """Yield the texts of a corpus, read lazily, refusing what no tokenizer can learn from.

    Raises:
        ValueError: If the corpus is one string, or a text holds a lone surrogate (its number is
            named).
    """
    if isinstance(texts, str):
        raise ValueError("texts is one string; pass a list of texts")
    yield from _checked(texts, "corpus")


def _checked(texts: Iterable[str], whole: str) -> Iterable[str]:
    for number, text in enumerate(texts):
        try:
            check_text(text)
        except ValueError as error:
            raise ValueError(f"text {number} of the {whole}: {error}") from error
        yield text


def unknown_id(i: int, vocab_size: int) -> ValueError:
    """Say that there is no such id."""
    return ValueError(f"token id {i} is not in the vocabulary, which ends at {vocab_size - 1}")


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """Refuse special tokens that could not be kept apart.

    Raises:
        ValueError: If they are one string, or one is empty or given twice.
    """
    if isinstance(special_tokens, str):
        raise ValueError("special_tokens is one string; pass a list of them")
    for number, token in enumerate(special_tokens):
        check_text(token)
        if not token:
            raise ValueError("a special token is empty: no place in a text could hold it")
        if token in special_tokens[:number]:
            raise ValueError(f"special token {token!r} is given twice")


def check_allowed(allowed: Collection[str], known: Collection[str]) -> None:
    """Refuse what `encode` may not be told to allow.

    Raises:
        ValueError: If it is one string, or one of them is not in `known`.
    """
    if isinstance(allowed, str):
        raise ValueError("allowed_special is one string; pass a collection of them")
    unknown = sorted(set(allowed) - set(known)) if allowed else []
    if unknown:
        raise ValueError(f"not special tokens: {unknown}; this tokenizer has {sorted(known)}")


def split_special(text: str, allowed: Collection[str], known: Collection[str]) -> list[str]:
    """Cut a text round the allowed special tokens; of two that start together the longer counts.

    Returns:
        The parts, none of them empty, whose concatenation is the text.

    Raises:
        ValueError: If a name in `allowed` is not in `known`.

    Example:
        >>> split_special("a<s>b", ["<s>"], ["<s>", "</s>"])
        ['a', '<s>', 'b']
    """
    check_allowed(allowed, known)
    if not allowed:
        return [text] if text else []
    names = sorted(allowed, key=len, reverse=True)
    return [part for part in re.split(f"({'|'.join(map(re.escape, names))})", text) if part]
