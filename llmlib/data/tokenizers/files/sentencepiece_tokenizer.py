"""SentencePiece: text as it stands, spaces included, goes in; ids come out.

Nothing is cut into words first, since many languages have none; a space becomes the visible mark
`▁` and is part of the pieces. Training is the library's; the model file that it writes is read
here and applied by this book's own unigram and byte-pair algorithms, with the library's ids.
"""

import hashlib
import io
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from llmlib.core.files import atomic_write
from llmlib.data.tokenizers.base import (
    SpelledTokenizer,
    check_allowed,
    check_special_tokens,
    check_text,
    checked_texts,
    split_special,
)
from llmlib.data.tokenizers.bpe.score_merging import merge_by_score
from llmlib.data.tokenizers.files.sentencepiece_format import (
    BPE,
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    parse_model,
)
from llmlib.data.tokenizers.normalization import SPACE, byte_pieces
from llmlib.data.tokenizers.unigram.paths import (
    UNKNOWN_PENALTY,
    KnownPieces,
    as_float32,
    best_path,
    piece_edges,
)

_USER_SCORE = as_float32(-0.1)  # above any likely way of spelling the symbol in other pieces


class SentencePieceModel(SpelledTokenizer):
    """A tokenizer read from a SentencePiece model file, of type unigram or BPE.

    Control symbols such as `<s>` never come from text. Neither do user-defined symbols, unless
    `encode` is told to allow them or they are all white space (which orders nobody to do
    anything); the library takes all of them for what they spell, always.

    Args:
        model: The content of a `.model` file; `file` is what it says.

    Raises:
        ValueError: If the file is damaged or of another type.

    Example:
        >>> model = SentencePieceModel.train(
        ...     ["a b a b ab"], 7, model_type="bpe", normalization_rule_name="identity"
        ... )
        >>> model.decode(model.encode("ab ba"))
        'ab ba'

    References:
        Kudo and Richardson (2018), SentencePiece: A simple and language independent subword
        tokenizer and detokenizer for Neural Text Processing.
    """

    def __init__(self, model: bytes) -> None:
        self.model = bytes(model)
        self.file = file = parse_model(self.model)
        self._tokens = [text for text, _, _ in file.pieces]
        self._kinds = [kind for _, _, kind in file.pieces]
        kinds = [(i, piece) for i, piece in enumerate(file.pieces)]
        self.special_tokens = {
            text: i
            for i, (text, _, kind) in kinds
            if kind == CONTROL or (kind == USER_DEFINED and text.replace(SPACE, " ").strip())
        }
        self._user = {text for text, _, kind in file.pieces if kind == USER_DEFINED}
        self._always = frozenset(self._user - self.special_tokens.keys())
        self._unused = {text for text, _, kind in file.pieces if kind == UNUSED}
        unknown = [i for i, (_, _, kind) in kinds if kind == UNKNOWN]
        if len(unknown) != 1:
            raise ValueError(f"the model has {len(unknown)} unknown tokens instead of one")
        self._unknown = unknown[0]
        bytes_of = {name: byte for byte, name in enumerate(byte_pieces())}
        self._byte_of = {i: bytes_of[text] for i, (text, _, kind) in kinds if kind == BYTE}
        self._id_of_byte = {byte: i for i, byte in self._byte_of.items()}
        if file.byte_fallback and len(self._id_of_byte) != 256:
            raise ValueError("the model spells unknown characters in bytes but lacks some of them")
        scores = [score for _, score, kind in file.pieces if kind == NORMAL]
        self._unknown_score = as_float32(min(scores, default=0.0) - UNKNOWN_PENALTY)
        self._longest = max(map(len, self._tokens))
        self._reach: dict[str, int] = {}  # longest replacement by its first character
        for text in file.replacements:
            self._reach[text[0]] = max(self._reach.get(text[0], 0), len(text))
        ascii_only = {t: r for t, r in file.replacements.items() if t.isascii()}
        self._plain_ascii = all(len(t) == 1 and len(r) <= 1 for t, r in ascii_only.items())
        self._ascii = {ord(t): r for t, r in ascii_only.items() if len(t) == 1}
        self._tables: dict[frozenset[str], tuple[KnownPieces, dict[str, float]]] = {}

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        special_tokens: Sequence[str] = (),
        *,
        model_type: str = "unigram",
        byte_fallback: bool = False,
        **options: Any,
    ) -> "SentencePieceModel":
        """Train with the SentencePiece library.

        Args:
            texts: The corpus, read lazily; the library skips texts of more than 4,192 bytes unless
                told otherwise by `max_sentence_length`.
            special_tokens: Control symbols, beside the library's own `<s>` and `</s>`.
            model_type: "unigram" or "bpe".
            byte_fallback: Spell unknown characters in bytes (takes 256 ids).
            **options: Further options of the library's trainer, by their names.

        Raises:
            ImportError: If the library is not installed.
            ValueError: If a text holds a lone surrogate or the library refuses.
        """
        check_special_tokens(special_tokens)
        if model_type not in ("unigram", "bpe"):
            raise ValueError(f"model_type={model_type!r} must be 'unigram' or 'bpe'")
        try:
            import sentencepiece
        except ImportError as error:
            raise ImportError(
                "training needs the SentencePiece library: pip install sentencepiece"
            ) from error
        written = io.BytesIO()
        settings: dict[str, Any] = {"minloglevel": 2, "num_threads": 1} | options
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(checked_texts(texts)),
                model_writer=written,
                vocab_size=vocab_size,
                model_type=model_type,
                byte_fallback=byte_fallback,
                control_symbols=list(special_tokens),
                **settings,
            )
        except (RuntimeError, OSError) as error:
            raise ValueError(f"the SentencePiece trainer refuses: {error}") from error
        return cls(written.getvalue())

    @property
    def sha256(self) -> str:
        """Hash of the model file."""
        return hashlib.sha256(self.model).hexdigest()

    @override
    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids, cut round the control symbols allowed, each part on its own.

        A user-defined symbol that is allowed is a piece of the text, as in the library.

        Raises:
            ValueError: If the text holds a lone surrogate or a name in `allowed_special` is no
                special token.
        """
        check_text(text)
        check_allowed(allowed_special, self.special_tokens)
        controls = set(allowed_special) - self._user
        symbols = self._always | (frozenset(allowed_special) & self._user)
        return self._encode_round(text, controls, lambda part: self._ids_of(part, symbols))

    def normalize(self, text: str, symbols: Collection[str] = frozenset()) -> str:
        """Do what the model file says before pieces are looked for.

        Args:
            symbols: Texts that the replacements leave alone.
        """
        file = self.file
        blank = SPACE if file.escape_spaces else " "
        parts = self._replaced(text, frozenset(symbols))
        if not text or (file.squeeze_spaces and all(part == " " for part in parts)):
            return ""
        out, squeezing = [], file.squeeze_spaces
        for part in parts:
            kept = part.lstrip(" ") if squeezing else part
            if kept:
                out.append(kept.replace(" ", blank))
                squeezing = file.squeeze_spaces and kept.endswith(" ")
        normalized = "".join(out)
        if file.dummy_space and not file.space_as_suffix:
            normalized = blank + normalized
        while file.squeeze_spaces and normalized.endswith(blank):
            normalized = normalized.removesuffix(blank)
        if file.dummy_space and file.space_as_suffix:
            normalized += blank
        return normalized

    def save(self, path: str | Path) -> None:
        """Write the model file, as the library reads it, whole or not at all."""
        atomic_write(path, self.model)

    @classmethod
    def load(cls, path: str | Path) -> "SentencePieceModel":
        """Read a model file, whoever trained it.

        Raises:
            ValueError: If the file is damaged or of another type.
        """
        try:
            return cls(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @override
    def _encode_ordinary(self, text: str) -> np.ndarray:
        return self._ids_of(text, self._always)

    def _ids_of(self, text: str, symbols: frozenset[str]) -> np.ndarray:
        normalized = self.normalize(text, symbols)
        known, ranks = self._known(symbols)
        if self.file.model_type == BPE:
            found = merge_by_score(normalized, symbols, ranks, self._unused)
            ids = []
            for piece in found:  # one not to be used is left where no merge made it
                usable = piece in known and piece not in self._unused
                ids += known[piece][0] if usable else self._unknown_ids(piece)
        else:
            edges = piece_edges(
                normalized, known, self._longest, self._unknown_ids, self._unknown_score
            )
            ids = best_path(edges, single_precision=True)
        # A run of unknown characters is one unknown token.
        both = zip(ids, [-1, *ids], strict=False)
        kept = [i for i, before in both if i != self._unknown or before != self._unknown]
        return np.array(kept, dtype="<u4")

    def _known(self, symbols: frozenset[str]) -> tuple[KnownPieces, dict[str, float]]:
        """The pieces that text may give, symbols' scores raised; and the rank of each."""
        if symbols not in self._tables:
            if len(self._tables) > 7:
                self._tables.clear()
            table: dict[str, tuple[tuple[int, ...], float]] = {}
            for i, (text, score, kind) in enumerate(self.file.pieces):
                if kind == NORMAL or (kind == UNUSED and self.file.model_type == BPE):
                    table[text] = ((i,), score)
                elif kind == USER_DEFINED and text in symbols:
                    raised = score if self.file.model_type == BPE else _USER_SCORE
                    table[text] = ((i,), raised)
            self._tables[symbols] = table, {text: -score for text, (_, score) in table.items()}
        return self._tables[symbols]

    def _unknown_ids(self, piece: str) -> tuple[int, ...]:
        if not self.file.byte_fallback:
            return (self._unknown,)
        return tuple(self._id_of_byte[byte] for byte in piece.encode())

    def _replaced(self, text: str, symbols: frozenset[str]) -> list[str]:
        """The text in parts, each what one character or sequence of them becomes."""
        table = self.file.replacements
        if not symbols and (not table or (self._plain_ascii and text.isascii())):
            replaced = text.translate(self._ascii)
            if len(replaced) == len(text):  # where one is deleted, its place counts
                return re.findall(" |[^ ]+", replaced)
        parts: list[str] = []
        stretches = split_special(text, symbols, symbols)
        pieces = [p for part in stretches for p in ([part] if part in symbols else part)]
        at = 0
        while at < len(pieces):
            reach = 0 if pieces[at] in symbols else self._reach.get(pieces[at], 0)
            for length in range(min(reach, len(pieces) - at), 0, -1):
                sequence = pieces[at : at + length]
                if "".join(sequence) in table and symbols.isdisjoint(sequence[1:]):
                    parts.append(table["".join(sequence)])
                    at += length
                    break
            else:
                parts.append(pieces[at])
                at += 1
        return parts

    @override
    def _join(self, ids: list[int]) -> str:
        file = self.file
        out: list[str] = []
        data = bytearray()
        at_start, dropped = True, False
        for i in [*ids, None]:
            if i is not None and self._kinds[i] == BYTE:
                data.append(self._byte_of[i])
                continue
            if data:
                # Each byte that is no part of a character becomes U+FFFD on its own.
                text = data.decode("utf-8", "surrogateescape")
                out.append(re.sub("[\udc80-\udcff]", "\ufffd", text))
                data.clear()
            if i is None:
                break
            at_start = at_start and not dropped and not any(out)
            dropped, piece = False, self._tokens[i]
            if self._kinds[i] == CONTROL:
                piece = ""
            elif self._kinds[i] == UNKNOWN:
                piece = file.unknown_surface
            elif at_start and (file.dummy_space or file.squeeze_spaces):
                dropped = piece.startswith(SPACE) and not file.squeeze_spaces
                piece = piece.removeprefix(SPACE)
            out.append(piece if self._kinds[i] == UNKNOWN else piece.replace(SPACE, " "))
        return "".join(out)
