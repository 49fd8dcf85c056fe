"""Byte-level byte-pair encoding: any text becomes ids and comes back unchanged."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from llmlib.core.files import atomic_write
from llmlib.data.tokenizers.base import checked_ids, read_saved, split_special, surrogate_error
from llmlib.data.tokenizers.bpe.merging import PieceEncoder
from llmlib.data.tokenizers.bpe.training import BYTE_ORDER, MAX_TOKENS, count_pieces, learn_merges
from llmlib.data.tokenizers.pretokenization import pretokenize

_FORMAT = "llmlib byte-level BPE"
_VERSION = 1


class ByteBPE:
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

    def __init__(self, merges: Iterable[tuple[int, int]], special_tokens: Sequence[str] = ()):
        _check_special_tokens(special_tokens)
        self.special_tokens = {token: i for i, token in enumerate(special_tokens)}
        self.merges = [(int(first), int(second)) for first, second in merges]
        n_special = len(special_tokens)
        self._tokens = [token.encode() for token in special_tokens]
        self._tokens += [bytes([byte]) for byte in BYTE_ORDER]
        known = set(self._tokens[n_special:])
        self._first_byte = n_special
        # As in training, ids are characters; special tokens take no part.
        rules: list[tuple[str, str]] = []
        for rank, (first, second) in enumerate(self.merges):
            if not all(n_special <= i < len(self._tokens) for i in (first, second)):
                raise ValueError(
                    f"merge {rank} joins ids {first} and {second}, of which one is special or not "
                    "yet made; the merges must come in the order in which they were learnt"
                )
            joined = self._tokens[first] + self._tokens[second]
            if joined in known:
                raise ValueError(f"merge {rank} spells {joined!r}, which is a token already")
            known.add(joined)
            pair = chr(first - n_special) + chr(second - n_special)
            rules.append((pair, chr(len(self._tokens) - n_special)))
            self._tokens.append(joined)
        self._pieces = PieceEncoder(rules)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        min_frequency: int = 1,
    ) -> "ByteBPE":
        """Learn a vocabulary from texts.

        Args:
            texts: The corpus; read once.
            vocab_size: Number of ids wanted, special tokens and the 256 bytes included.
            special_tokens: Texts that get the first ids.
            min_frequency: Pairs seen fewer times are not merged; at least 1.

        Returns:
            The tokenizer, with exactly `vocab_size` ids.

        Raises:
            ValueError: If the vocabulary is too small for the bytes, larger than the texts allow,
                or a text holds a lone surrogate.
        """
        if isinstance(texts, str):
            raise ValueError("texts is one string; pass a list of texts")
        _check_special_tokens(special_tokens)
        smallest = 256 + len(special_tokens)
        if not smallest <= vocab_size <= MAX_TOKENS:
            raise ValueError(
                f"vocab_size={vocab_size} must lie between {smallest} (256 bytes and "
                f"{len(special_tokens)} special tokens) and {MAX_TOKENS}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency={min_frequency} must be at least 1")
        try:
            merges = learn_merges(
                count_pieces(texts), vocab_size - len(special_tokens), min_frequency
            )
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from error
        offset = len(special_tokens)
        bpe = cls([(first + offset, second + offset) for first, second in merges], special_tokens)
        if bpe.vocab_size < vocab_size:
            raise ValueError(
                f"vocab_size={vocab_size} is larger than the text allows: after {len(merges)} "
                f"merges no pair is left that occurs {min_frequency} times. Use at most "
                f"vocab_size={bpe.vocab_size}, or more text."
            )
        return bpe

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._tokens)

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds every id: uint16 or uint32."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    @property
    def sha256(self) -> str:
        """Hash of special tokens and merges: equal for tokenizers that give equal ids."""
        content = json.dumps([list(self.special_tokens), self.merges])
        return hashlib.sha256(content.encode()).hexdigest()

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that an id stands for.

        Args:
            token: An id.

        Returns:
            Its bytes; for a special token, its text in UTF-8.

        Raises:
            ValueError: If there is no such id.
        """
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token id {token} is not in 0..{self.vocab_size - 1}")
        return self._tokens[token]

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: Any text without lone surrogates.
            allowed_special: Special tokens that count as such where they stand in the text. By
                default none does, so text from a stranger cannot end a document or a turn.

        Returns:
            The ids; `decode` gives the text back.

        Raises:
            ValueError: If the text holds a lone surrogate or a name in `allowed_special` is no
                special token of this tokenizer.
        """
        if not allowed_special:
            return self._encode_ordinary(text).tolist()
        ids: list[int] = []
        for part in split_special(text, allowed_special, self.special_tokens):
            if part in allowed_special:
                ids.append(self.special_tokens[part])
            else:
                ids += self._encode_ordinary(part).tolist()
        return ids

    def encode_batch(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Turn texts into arrays of ids; the fast way to encode a corpus.

        Args:
            texts: Texts without lone surrogates; special tokens in them are ordinary text.

        Returns:
            For each text its ids, one-dimensional, of type `dtype`.

        Raises:
            ValueError: If a text holds a lone surrogate (its number is named).
        """
        arrays = []
        for number, text in enumerate(texts):
            try:
                arrays.append(self._encode_ordinary(text).astype(self.dtype))
            except ValueError as error:
                raise ValueError(f"text {number} of the batch: {error}") from error
        return arrays

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Turn ids back into text.

        Args:
            ids: Token ids.
            errors: What to do with bytes that are not whole UTF-8 characters, as happens when a
                sequence is cut in the middle of one: "replace" writes U+FFFD, "ignore" leaves them
                out, "strict" raises.

        Returns:
            The text, special tokens spelt out.

        Raises:
            ValueError: If an id is not in the vocabulary, or `errors` is "strict" and the bytes are
                not UTF-8.
        """
        return self.decode_bytes(ids).decode("utf-8", errors=errors)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Turn ids back into bytes.

        Args:
            ids: Token ids.

        Returns:
            Their bytes, joined.

        Raises:
            ValueError: If an id is not in the vocabulary.
        """
        return b"".join([self._tokens[i] for i in checked_ids(ids, self.vocab_size)])

    def save(self, path: str | Path) -> None:
        """Write the tokenizer as JSON, whole or not at all.

        Args:
            path: The file to write.
        """
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "sha256": self.sha256,
            "special_tokens": list(self.special_tokens),
            "merges": self.merges,
        }
        atomic_write(path, json.dumps(content, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "ByteBPE":
        """Read a tokenizer that `save` wrote.

        Args:
            path: The file to read.

        Returns:
            The tokenizer.

        Raises:
            ValueError: If the file is cut short, changed, of another kind or of a later version.
        """
        content = read_saved(path, _FORMAT, _VERSION, "ByteBPE")
        try:
            bpe = cls([(a, b) for a, b in content["merges"]], content["special_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a whole tokenizer: {error}") from error
        if bpe.sha256 != content.get("sha256"):
            raise ValueError(f"{path} has been changed since it was saved (its SHA-256 differs)")
        return bpe

    def _encode_ordinary(self, text: str) -> np.ndarray:
        try:
            parts = map(self._pieces.__getitem__, pretokenize(text))
            ids = np.frombuffer(b"".join(parts), dtype="<u4")
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from error
        return ids + np.uint32(self._first_byte)


def _check_special_tokens(special_tokens: Sequence[str]) -> None:
    if isinstance(special_tokens, str):
        raise ValueError("special_tokens is one string; pass a list of them")
    for number, token in enumerate(special_tokens):
        if token in special_tokens[:number]:
            raise ValueError(f"special token {token!r} is given twice")
        if len(pretokenize(token)) < 2:
            raise ValueError(
                f"special token {token!r} could not be told from that word in a text; use a form "
                "that no word has, such as <|end|>"
            )
