"""Reading the rank files of tiktoken: one token a line in base 64, with its rank, and no merges.

The rank is the token's id and the order of merging at once: of all neighbours whose joined bytes
are a token, those with the lowest rank are joined first. No file of merges is needed, and a token
that two pairs spell can be reached by either.
"""

import base64
import binascii
import heapq
from collections.abc import Collection, Iterable, Mapping
from operator import index
from pathlib import Path

import numpy as np

from llmlib.core.files import atomic_write
from llmlib.data.tokenizers.base import (
    PieceCache,
    check_special_tokens,
    check_text,
    split_special,
)
from llmlib.data.tokenizers.pretokenization import GPT2_PATTERN
from llmlib.data.tokenizers.recipe import cut_by


class RankBPE:
    """A byte-level BPE tokenizer given by the rank of each token.

    Args:
        ranks: Ids by token; each of the 256 bytes is one.
        special_tokens: Ids by text of tokens that ordinary text never gives.
        pattern: Regular expression whose matches are the pieces that merges do not cross.

    Raises:
        ValueError: If a byte has no token, or two tokens have one id.

    Example:
        >>> ranks = {bytes([b]): b for b in range(256)} | {b"ab": 256, b"bc": 257}
        >>> RankBPE(ranks).encode("abc")
        [256, 99]

    References:
        The format and the rule are those of the tiktoken library, read from its documentation.
    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        special_tokens: Mapping[str, int] | None = None,
        *,
        pattern: str = GPT2_PATTERN,
    ) -> None:
        self.special_tokens = dict(special_tokens or {})
        check_special_tokens(list(self.special_tokens))
        self._ranks = dict(ranks)
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ranks]
        if missing:
            raise ValueError(f"{len(missing)} of the 256 bytes have no token, first {missing[0]}")
        self._tokens = {i: token for token, i in self._ranks.items()}
        self._tokens |= {i: token.encode() for token, i in self.special_tokens.items()}
        if len(self._tokens) != len(self._ranks) + len(self.special_tokens):
            raise ValueError("two tokens have one id: the ranks or the special tokens are wrong")
        self._cut = cut_by(pattern)
        self._pieces = PieceCache(self._encode_piece)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        special_tokens: Mapping[str, int] | None = None,
        *,
        pattern: str = GPT2_PATTERN,
    ) -> "RankBPE":
        """Read a `.tiktoken` file.

        Args:
            path: The file; it says nothing of special tokens and of the pattern.
            special_tokens: Ids by text.
            pattern: Regular expression whose matches are the pieces.

        Returns:
            The tokenizer.

        Raises:
            ValueError: If a line is damaged (its number is named) or a token is given twice.
        """
        ranks: dict[bytes, int] = {}
        for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
            if not line:
                continue
            try:
                token, rank = line.split()
                data, i = base64.b64decode(token, validate=True), int(rank)
            except (ValueError, binascii.Error) as error:
                raise ValueError(f"{path}, line {number}: no token and rank: {error}") from error
            if data in ranks:
                raise ValueError(f"{path}, line {number}: the token {data!r} is given twice")
            ranks[data] = i
        try:
            return cls(ranks, special_tokens, pattern=pattern)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def to_file(self, path: str | Path) -> None:
        """Write the ranks as a `.tiktoken` file, whole or not at all.

        Args:
            path: The file to write.
        """
        rows = sorted(self._ranks.items(), key=lambda row: row[1])
        lines = [f"{base64.b64encode(token).decode()} {i}\n" for token, i in rows]
        atomic_write(path, "".join(lines))

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._tokens) + 1

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: Any text without lone surrogates.
            allowed_special: Special tokens that count as such where they stand in the text.

        Returns:
            The ids.

        Raises:
            ValueError: If the text holds a lone surrogate or a name in `allowed_special` is no
                special token.
        """
        check_text(text)
        ids: list[int] = []
        for part in split_special(text, allowed_special, self.special_tokens):
            if part in allowed_special:
                ids.append(self.special_tokens[part])
            else:
                ids += self._pieces.encode(self._cut(part)).tolist()
        return ids

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Turn texts into arrays of ids; special tokens in them are ordinary text.

        Args:
            texts: Texts without lone surrogates.

        Returns:
            For each text its ids, one-dimensional, of type uint32.
        """
        return [np.array(self.encode(text), dtype="<u4") for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text; bytes that are no whole character become U+FFFD.

        Args:
            ids: Token ids.

        Returns:
            The text, special tokens spelt out.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        checked = [index(i) for i in ids]
        wrong = [i for i in checked if i not in self._tokens]
        if wrong:
            raise ValueError(f"token id {wrong[0]} is not in the vocabulary of {self.vocab_size}")
        return b"".join([self._tokens[i] for i in checked]).decode("utf-8", errors="replace")

    def _encode_piece(self, piece: str) -> list[int]:
        """Join the neighbours of lowest rank, leftmost first, with a heap over a linked list."""
        data = piece.encode()
        if data in self._ranks:
            return [self._ranks[data]]
        n = len(data)
        ends, before = list(range(1, n + 1)), list(range(-1, n - 1))
        heap: list[tuple[int, int, int]] = []

        def offer(left: int) -> None:
            if left >= 0 and ends[left] < n:
                end = ends[ends[left]]
                rank = self._ranks.get(data[left:end])
                if rank is not None:
                    heapq.heappush(heap, (rank, left, end))

        for left in range(n - 1):
            offer(left)
        while heap:
            _, left, end = heapq.heappop(heap)
            # Stale if the left part is gone (its end is 0) or either part has grown since.
            if not ends[left] or ends[left] == n or ends[ends[left]] != end:
                continue
            middle, ends[left] = ends[left], end
            ends[middle] = 0
            if end < n:
                before[end] = left
            offer(before[left])
            offer(left)
        ids, at = [], 0
        while at < n:
            ids.append(self._ranks[data[at : ends[at]]])
            at = ends[at]
        return ids
