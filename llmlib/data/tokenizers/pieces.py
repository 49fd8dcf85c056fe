"""Encoding a text by its pieces, each of which is worked out once.

Words repeat, so almost every piece of a text has been encoded before.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from typing_extensions import override

from llmlib.data.tokenizers.base import BaseTokenizer

_CACHED_PIECES = 1 << 18  # the commonest 32,000 pieces cover almost any text; this bounds memory
_CACHED_LENGTH = 64  # characters; longer pieces hardly ever come twice


class PieceCache(dict[str, bytes]):
    """Ids of each piece of text (little-endian, 32 bits), worked out on first use.

    Being a dictionary, it is read without running a line of Python.

    Example:
        >>> cache = PieceCache(lambda piece: piece.encode("utf-32-le"))
        >>> cache.encode(["ab", "a"]).tolist()
        [97, 98, 97]
    """

    def __init__(self, encode_piece: Callable[[str], bytes]) -> None:
        super().__init__()
        self._encode_piece = encode_piece

    def __missing__(self, piece: str) -> bytes:
        ids = self._encode_piece(piece)
        if len(piece) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids

    def encode(self, pieces: Iterable[str]) -> np.ndarray:
        """Return the ids of pieces, one after the other, in one dimension."""
        return np.frombuffer(b"".join(map(self.__getitem__, pieces)), dtype="<u4")


class PieceTokenizer(BaseTokenizer):
    """A tokenizer that cuts a text into pieces and gives equal pieces equal ids."""

    def __init__(self) -> None:
        self._pieces = PieceCache(self._encode_piece)

    @abstractmethod
    def _split(self, text: str) -> list[str]:
        """Cut a text into pieces that no token crosses."""

    @abstractmethod
    def _encode_piece(self, piece: str) -> bytes:
        """Ids of one piece, packed."""

    @override
    def _encode_ordinary(self, text: str) -> np.ndarray:
        return self._pieces.encode(self._split(text))


def packed(ids: Sequence[int]) -> bytes:
    """Write ids as `PieceCache` keeps them."""
    return np.array(ids, dtype="<u4").tobytes()
