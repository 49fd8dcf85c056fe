"""What every tokenizer of the book can do, whatever it learns and however it cuts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back; also a published tokenizer, which is only read.

    Example:
        >>> from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
        >>> isinstance(ByteBPE([]), Tokenizer)
        True
    """

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, special tokens included."""
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


@runtime_checkable
class TrainableTokenizer(Tokenizer, Protocol):
    """A tokenizer that is learnt from texts and kept in a file.

    `ByteBPE`, `CharacterBPE`, `WordPiece`, `Unigram` and `SentencePieceModel` are.
    """

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()
    ) -> "TrainableTokenizer":
        """Learn a vocabulary of `vocab_size` ids, special tokens included, from texts."""
        ...

    def save(self, path: str | Path) -> None:
        """Write the tokenizer into one file, whole or not at all."""
        ...

    @classmethod
    def load(cls, path: str | Path) -> "TrainableTokenizer":
        """Read a tokenizer that `save` wrote."""
        ...
