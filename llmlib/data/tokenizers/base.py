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

from llmlib.core.files import atomic_write

_VERSION = 1
_Kind = TypeVar("_Kind", bound="BaseTokenizer")
_CACHED_PIECES, _CACHED_LENGTH = 1 << 18, 64  # as in the byte-level BPE


class BaseTokenizer(ABC):
    """Encoding, decoding and saving in terms of four methods of the subclass.

    Attributes:
        special_tokens: Ids by text of the tokens that ordinary text never gives.
    """

    kind: ClassVar[str]  # names the file format
    special_tokens: dict[str, int]
    _tokens: list[str]

    @abstractmethod
    def _encode_ordinary(self, text: str) -> np.ndarray:
        """Ids of a text in which nothing is special."""

    @abstractmethod
    def _join(self, ids: list[int]) -> str:
        """Text of ids that all exist."""

    @abstractmethod
    def _content(self) -> dict[str, Any]:
        """Everything that decides the ids, as JSON can hold it."""

    @classmethod
    @abstractmethod
    def _from_content(cls: type[_Kind], content: Mapping[str, Any]) -> _Kind:
        """The tokenizer whose `_content` this is."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._tokens)

    @property
    def tokens(self) -> list[str]:
        """The spelling of each id, in order of ids."""
        return list(self._tokens)

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds every id: uint16 or uint32."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    @property
    def sha256(self) -> str:
        """Hash of all that decides the ids: equal for tokenizers that give equal ids."""
        return hashlib.sha256(json.dumps(self._content()).encode()).hexdigest()

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: Any text without lone surrogates.
            allowed_special: Special tokens that count as such where they stand in the text. By
                default none does, so text from a stranger cannot end a document or a turn.

        Returns:
            The ids.

        Raises:
            ValueError: If the text holds a lone surrogate or a name in `allowed_special` is no
                special token of this tokenizer.
        """
        check_text(text)
        ids: list[int] = []
        for part in split_special(text, allowed_special, self.special_tokens):
            if part in allowed_special:
                ids.append(self.special_tokens[part])
            else:
                ids += self._encode_ordinary(part).tolist()
        return ids

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Turn texts into arrays of ids; special tokens in them are ordinary text.

        Args:
            texts: Texts without lone surrogates.

        Returns:
            For each text its ids, one-dimensional, of type `dtype`.

        Raises:
            ValueError: If a text holds a lone surrogate (its number is named).
        """
        arrays = []
        for number, text in enumerate(texts):
            try:
                check_text(text)
            except ValueError as error:
                raise ValueError(f"text {number} of the batch: {error}") from error
            arrays.append(self._encode_ordinary(text).astype(self.dtype))
        return arrays

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text.

        Args:
            ids: Token ids.

        Returns:
            The text, special tokens spelt out.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        return self._join(checked_ids(ids, self.vocab_size))

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON, whole or not at all.

        Args:
            path: The file to write.
        """
        content = {
            "format": f"llmlib {self.kind}",
            "version": _VERSION,
            "sha256": self.sha256,
            **self._content(),
        }
        atomic_write(path, json.dumps(content, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls: type[_Kind], path: str | Path) -> _Kind:
        """Read a tokenizer that `save` wrote.

        Args:
            path: The file to read.

        Returns:
            The tokenizer.

        Raises:
            ValueError: If the file is cut short, changed, of another kind or of a later version.
        """
        content = read_saved(path, f"llmlib {cls.kind}", _VERSION, cls.__name__)
        try:
            tokenizer = cls._from_content(content)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a whole tokenizer: {error}") from error
        if tokenizer.sha256 != content.get("sha256"):
            raise ValueError(f"{path} has been changed since it was saved (its SHA-256 differs)")
        return tokenizer


class PieceCache(dict[str, bytes]):
    """Ids of each piece of text (little-endian, 32 bits), worked out on first use.

    Words repeat, so almost every look-up finds the work done; memory is bounded by 2^18 pieces of
    at most 64 characters.

    Args:
        encode: Ids of one piece.

    Example:
        >>> cache = PieceCache(lambda piece: [ord(c) for c in piece])
        >>> cache.encode(["ab", "a"]).tolist()
        [97, 98, 97]
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, piece: str) -> bytes:
        ids = np.array(self._encode(piece), dtype="<u4").tobytes()
        if len(piece) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids

    def encode(self, pieces: Iterable[str]) -> np.ndarray:
        """Return the ids of pieces, one after the other.

        Args:
            pieces: Pieces of text.

        Returns:
            Their ids, one-dimensional.
        """
        return np.frombuffer(b"".join(map(self.__getitem__, pieces)), dtype="<u4")


def read_saved(path: str | Path, name: str, version: int, kind: str) -> dict[str, Any]:
    """Read the JSON of a saved tokenizer as far as its format and version say that it is one.

    Args:
        path: The file to read.
        name: Its format's name.
        version: The version of the format that this release reads.
        kind: The tokenizer's class, for the message.

    Returns:
        The content; whether it is whole and unchanged is for the tokenizer to say.

    Raises:
        ValueError: If the file is cut short, of another kind or of a later version.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is cut short or is not a saved tokenizer: {error}") from error
    if not isinstance(content, dict) or content.get("format") != name:
        raise ValueError(f"{path} is not a saved {kind} (no format {name!r})")
    if content.get("version") != version:
        raise ValueError(
            f"{path} has version {content.get('version')} of the format; this release reads "
            f"version {version}"
        )
    return content


def surrogate_error(error: UnicodeEncodeError) -> ValueError:
    """Say what to do about a text that UTF-8 cannot write.

    Args:
        error: What encoding it raised.

    Returns:
        The error to raise instead.
    """
    code = ord(error.object[error.start])
    return ValueError(
        f"the text holds a lone surrogate (U+{code:04X}), which UTF-8 cannot write; read the file "
        'with errors="replace", or clean the text with '
        'text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
    )


def check_text(text: str) -> None:
    """Refuse a text that UTF-8 cannot write.

    Args:
        text: Any string.

    Raises:
        ValueError: If it holds a lone surrogate.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise surrogate_error(error) from error


def checked_texts(texts: Iterable[str]) -> Iterable[str]:
    """Yield the texts of a corpus, refusing what no tokenizer can learn from.

    Args:
        texts: The corpus, read lazily.

    Yields:
        Each text.

    Raises:
        ValueError: If the corpus is one string, or a text holds a lone surrogate (its number is
            named).
    """
    if isinstance(texts, str):
        raise ValueError("texts is one string; pass a list of texts")
    for number, text in enumerate(texts):
        try:
            check_text(text)
        except ValueError as error:
            raise ValueError(f"text {number} of the corpus: {error}") from error
        yield text


def checked_ids(ids: Iterable[int], vocab_size: int) -> list[int]:
    """Return ids as whole numbers, refusing what no token has.

    Args:
        ids: Token ids.
        vocab_size: Ids are below this.

    Returns:
        The ids.

    Raises:
        ValueError: If an id is not in the vocabulary.
    """
    checked = [index(i) for i in ids]
    if checked and not 0 <= min(checked) <= max(checked) < vocab_size:
        wrong = next(i for i in checked if not 0 <= i < vocab_size)
        raise ValueError(f"token id {wrong} is not in 0..{vocab_size - 1}")
    return checked


def check_special_tokens(special_tokens: Sequence[str]) -> None:
    """Refuse special tokens that could not be kept apart.

    Args:
        special_tokens: Their texts.

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


def split_special(text: str, allowed: Collection[str], known: Collection[str]) -> list[str]:
    """Cut a text round the allowed special tokens; of two that start together the longer counts.

    Args:
        text: Any text.
        allowed: Special tokens that count as such.
        known: The special tokens that the tokenizer has.

    Returns:
        The parts, none of them empty, whose concatenation is the text.

    Raises:
        ValueError: If a name in `allowed` is not in `known`.

    Example:
        >>> split_special("a<s>b", ["<s>"], ["<s>", "</s>"])
        ['a', '<s>', 'b']
    """
    if isinstance(allowed, str):
        raise ValueError("allowed_special is one string; pass a collection of them")
    if not allowed:
        return [text] if text else []
    unknown = sorted(set(allowed) - set(known))
    if unknown:
        raise ValueError(f"not special tokens: {unknown}; this tokenizer has {sorted(known)}")
    names = sorted(allowed, key=len, reverse=True)
    return [part for part in re.split(f"({'|'.join(map(re.escape, names))})", text) if part]
