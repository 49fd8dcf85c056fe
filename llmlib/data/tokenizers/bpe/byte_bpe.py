"""Byte-level byte-pair encoding: any text becomes ids and comes back unchanged."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from llmlib.data.tokenizers.base import SavedTokenizer, check_special_tokens, checked_texts
from llmlib.data.tokenizers.bpe.merging import PieceMerger
from llmlib.data.tokenizers.bpe.symbols import BYTE_ORDER, MAX_TOKENS
from llmlib.data.tokenizers.bpe.training import count_pieces, learn_merges
from llmlib.data.tokenizers.byte_level import ByteLevelTokenizer
from llmlib.data.tokenizers.pretokenization import pretokenize


class ByteBPE(ByteLevelTokenizer, SavedTokenizer):
    """A byte-level BPE tokenizer: special tokens, the 256 bytes and learnt merges.

    Ids run from 0: the special tokens in the order given, the bytes in GPT-2's order, then the
    tokens in the order in which they were learnt; the same ids as Hugging Face `tokenizers` gives
    a byte-level BPE trained on the same text.

    Args:
        merges: Pairs of ids, first to be merged first.
        special_tokens: Texts that stand for one id each, such as `<|endoftext|>`. They are never
            found in a text unless `encode` is told to.

    Raises:
        ValueError: If a special token repeats another or is a single piece of text (it could then
            not be told from that word), or a merge names an id that does not exist before it or
            spells a token that does.

    Example:
        >>> bpe = ByteBPE.train(["low lower lowest"] * 2, vocab_size=259)
        >>> [bpe.token_bytes(i) for i in bpe.encode("slow")]
        [b's', b'low']
        >>> bpe.decode(bpe.encode("слово"))
        'слово'

    References:
        Radford et al. (2019), Language Models are Unsupervised Multitask Learners, section 2.2.
    """

    kind: ClassVar[str] = "byte-level BPE"

    def __init__(
        self, merges: Iterable[tuple[int, int]], special_tokens: Sequence[str] = ()
    ) -> None:
        _check_special_tokens(special_tokens)
        self.merges = [(int(first), int(second)) for first, second in merges]
        self._first_byte = len(special_tokens)
        tokens = [bytes([byte]) for byte in BYTE_ORDER]
        known = set(tokens)
        # As in training, ids are characters; special tokens take no part.
        rules: list[tuple[str, str]] = []
        for rank, pair in enumerate(self.merges):
            first, second = (i - self._first_byte for i in pair)
            if not (0 <= first < len(tokens) and 0 <= second < len(tokens)):
                raise ValueError(
                    f"merge {rank} joins ids {pair[0]} and {pair[1]}, of which one is special or "
                    "not yet made; the merges must come in the order in which they were learnt"
                )
            joined = tokens[first] + tokens[second]
            if joined in known:
                raise ValueError(f"merge {rank} spells {joined!r}, which is a token already")
            known.add(joined)
            rules.append((chr(first) + chr(second), chr(len(tokens))))
            tokens.append(joined)
        self._merger = PieceMerger(rules)
        numbers = {token: i for i, token in enumerate(special_tokens)}
        super().__init__(enumerate(tokens, self._first_byte), numbers)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        min_frequency: int = 1,
    ) -> "ByteBPE":
        """Learn a vocabulary of exactly `vocab_size` ids from texts, which are read once.

        Args:
            vocab_size: Number of ids wanted, special tokens and the 256 bytes included.
            min_frequency: Pairs seen fewer times are not merged; at least 1.

        Raises:
            ValueError: If the vocabulary is too small for the bytes, larger than the texts allow,
                or a text holds a lone surrogate.
        """
        _check_special_tokens(special_tokens)
        offset = len(special_tokens)
        if not 256 + offset <= vocab_size <= MAX_TOKENS:
            raise ValueError(
                f"vocab_size={vocab_size} must lie between {256 + offset} (256 bytes and "
                f"{offset} special tokens) and {MAX_TOKENS}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency={min_frequency} must be at least 1")
        pieces = count_pieces(checked_texts(texts))
        merges = learn_merges(pieces, vocab_size - offset, min_frequency)
        bpe = cls([(first + offset, second + offset) for first, second in merges], special_tokens)
        if bpe.vocab_size < vocab_size:
            raise ValueError(
                f"vocab_size={vocab_size} is larger than the text allows: after {len(merges)} "
                f"merges no pair is left that occurs {min_frequency} times. Use at most "
                f"vocab_size={bpe.vocab_size}, or more text."
            )
        return bpe

    @property
    @override
    def sha256(self) -> str:
        content = json.dumps([list(self.special_tokens), self.merges])
        return hashlib.sha256(content.encode()).hexdigest()

    @override
    def _split(self, text: str) -> list[str]:
        return pretokenize(text)

    @override
    def _encode_piece(self, piece: str) -> bytes:
        return self._merger.encode(piece.encode())

    @override
    def _encode_ordinary(self, text: str) -> np.ndarray:
        return super()._encode_ordinary(text) + np.uint32(self._first_byte)

    @override
    def _content(self) -> dict[str, Any]:
        return {"special_tokens": list(self.special_tokens), "merges": self.merges}

    @classmethod
    @override
    def _from_content(cls, content: Mapping[str, Any]) -> "ByteBPE":
        return cls([(a, b) for a, b in content["merges"]], content["special_tokens"])


def _check_special_tokens(special_tokens: Sequence[str]) -> None:
    check_special_tokens(special_tokens)
    for token in special_tokens:
        if len(pretokenize(token)) < 2:
            raise ValueError(
                f"special token {token!r} could not be told from that word in a text; use a form "
                "that no word has, such as <|end|>"
            )
