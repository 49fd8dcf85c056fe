"""What every tokenizer of the book can do, whatever it learns and however it cuts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back, learnt from texts and kept in a file.

    A pipeline written against this protocol takes any of `ByteBPE`, `CharacterBPE`, `WordPiece`,
    `Unigram` and `SentencePieceModel`.

    Example:
        >>> from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
        >>> isinstance(ByteBPE([]), Tokenizer)
        True
    """

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()
    ) -> "Tokenizer":
        """Learn a vocabulary of `vocab_size` ids, special tokens included, from texts."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Ids of the texts that stand for something else than themselves."""
        ...

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids; only the special tokens named count as such."""
        ...

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Turn texts into arrays of ids; special tokens in them are ordinary text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text."""
        ...

    def save(self, path: str | Path) -> None:
        """Write the tokenizer into one file, whole or not at all."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer that `save` wrote."""
        ...
