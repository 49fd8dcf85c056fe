"""Reading the rank files of tiktoken: one token a line in base 64, with its rank, and no merges.

The rank is the token's id and the order of merging at once: of all neighbours whose joined bytes
are a token, those with the lowest rank are joined first. No file of merges is needed, and a token
that two pairs spell can be reached by either.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from llmlib.core.files import atomic_write
from llmlib.data.tokenizers.base import check_special_tokens
from llmlib.data.tokenizers.bpe.merging import merge_neighbours
from llmlib.data.tokenizers.byte_level import ByteLevelTokenizer
from llmlib.data.tokenizers.pieces import packed
from llmlib.data.tokenizers.pretokenization import GPT2_PATTERN, cut_by


class RankBPE(ByteLevelTokenizer):
    """A byte-level BPE tokenizer given by the rank of each token.

    Args:
        ranks: Ids by token; each of the 256 bytes is one.
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
        special = special_tokens or {}
        check_special_tokens(list(special))
        super().__init__(((i, token) for token, i in ranks.items()), special)
        self._ranks = dict(ranks)
        missing = [byte for byte in range(256) if bytes([byte]) not in self._ranks]
        if missing:
            raise ValueError(f"{len(missing)} of the 256 bytes have no token, first {missing[0]}")
        self._cut = cut_by(pattern)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        special_tokens: Mapping[str, int] | None = None,
        *,
        pattern: str = GPT2_PATTERN,
    ) -> "RankBPE":
        """Read a `.tiktoken` file, which says nothing of special tokens and of the pattern.

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
                if not rank.isdigit():
                    raise ValueError(f"the rank {rank.decode()!r} is no number from 0 on")
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
        """Write the ranks as a `.tiktoken` file, whole or not at all."""
        rows = sorted(self._ranks.items(), key=lambda row: row[1])
        lines = [f"{base64.b64encode(token).decode()} {i}\n" for token, i in rows]
        atomic_write(path, "".join(lines))

    @override
    def _split(self, text: str) -> list[str]:
        return self._cut(text)

    @override
    def _encode_piece(self, piece: str) -> bytes:
        data = piece.encode()
        if data in self._ranks:
            return packed([self._ranks[data]])
        parts = merge_neighbours([bytes([byte]) for byte in data], self._ranks.get)
        return packed([self._ranks[part] for part in parts])
