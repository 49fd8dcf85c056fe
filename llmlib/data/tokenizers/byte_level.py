"""What byte-level tokenizers share: an id stands for bytes, which may be parts of characters."""

from collections.abc import Iterable, Mapping
from operator import index

from typing_extensions import override

from llmlib.data.tokenizers.base import unknown_id
from llmlib.data.tokenizers.pieces import PieceTokenizer


class ByteLevelTokenizer(PieceTokenizer):
    """A tokenizer whose ids stand for bytes; the ids may have gaps.

    Args:
        tokens: Each id with its bytes, special tokens left out.
        special_tokens: Ids by text.

    Raises:
        ValueError: If two tokens have one id, or an id is negative.
    """

    def __init__(
        self, tokens: Iterable[tuple[int, bytes]], special_tokens: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.special_tokens = dict(special_tokens)
        both = [*tokens, *((i, token.encode()) for token, i in self.special_tokens.items())]
        self._tokens = dict(both)
        if len(self._tokens) != len(both):
            raise ValueError("two tokens have one id: the file or the special tokens are wrong")
        if min(self._tokens, default=0) < 0:
            raise ValueError(f"a token has the id {min(self._tokens)}; ids count from 0")
        self._vocab_size = max(self._tokens, default=-1) + 1

    @property
    @override
    def vocab_size(self) -> int:
        return self._vocab_size

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that an id stands for; for a special token, its text in UTF-8.

        Raises:
            ValueError: If there is no such id.
        """
        return self.decode_bytes([token])

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn ids back into bytes.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        try:
            return b"".join([self._tokens[index(i)] for i in ids])
        except KeyError as error:
            raise unknown_id(error.args[0], self.vocab_size) from error

    @override
    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Turn ids back into text, special tokens spelt out.

        Args:
            errors: What to do with bytes that are not whole UTF-8 characters, as happens when a
                sequence is cut in the middle of one: "replace" writes U+FFFD, "ignore" leaves them
                out, "strict" raises.

        Raises:
            ValueError: If an id is not in the vocabulary, or `errors` is "strict" and the bytes are
                not UTF-8.
        """
        return self.decode_bytes(ids).decode("utf-8", errors=errors)
