"""Tokenizers that published models come with: byte-level BPE whose ids a file decides.

`ByteBPE` numbers its tokens in the order in which they were learnt. A published vocabulary has
its own order, its own special tokens and its own way of cutting text into pieces. The merging is
the same, so the engine of `ByteBPE` does it, and its ids are then translated.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any

import numpy as np

from llmlib.core.files import read_json
from llmlib.core.task import Message
from llmlib.data.tokenizers.base import split_special, surrogate_error
from llmlib.data.tokenizers.bpe.merging import PieceEncoder
from llmlib.data.tokenizers.bpe.training import BYTE_ORDER, as_symbols
from llmlib.data.tokenizers.chat_template import ChatTemplate
from llmlib.data.tokenizers.recipe import GGUF_RECIPES, Recipe, recipe_of

_CONTROL, _USER_DEFINED = 3, 4  # GGUF's types of tokens that stand outside the merges
_CACHED_PIECES, _CACHED_LENGTH = 1 << 18, 64  # as in PieceEncoder

# GPT-2's vocabulary files write a byte that has no printable character of its own as one from
# U+0100 on: a space is U+0120.
_BYTE_OF_LETTER: dict[str, int] = {
    chr(byte) if rank < 188 else chr(256 + rank - 188): byte for rank, byte in enumerate(BYTE_ORDER)
}


class PretrainedBPE:
    """A byte-level BPE tokenizer with the ids of a published model.

    Text is text: a special token spelt out in it is encoded letter by letter unless `encode` is
    told to take it for one. Bytes that the vocabulary lacks (SmolLM2's has no token for 21 bytes,
    most of which UTF-8 never uses) are left out, as `tokenizers` does.

    Args:
        vocabulary: Ids by token, in the letters of GPT-2's files.
        merges: Pairs of tokens, first to be merged first.
        special_tokens: Ids by text of the tokens that stand outside the merges.
        recipe: How text is cut before the merges.
        bos_token: Id with which a text begins, if the model expects one.
        eos_token: Id that ends a text, or an assistant's turn.
        chat_template: Source of the chat template.

    Raises:
        ValueError: If a merge spells no token of the vocabulary, or two tokens have one id.

    References:
        Radford et al. (2019), Language Models are Unsupervised Multitask Learners, section 2.2.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        special_tokens: Mapping[str, int] | None = None,
        *,
        recipe: Recipe | None = None,
        bos_token: int | None = None,
        eos_token: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.special_tokens = dict(special_tokens or {})
        self.recipe = recipe or Recipe()
        self.bos_token, self.eos_token = bos_token, eos_token
        ordinary = {t: i for t, i in vocabulary.items() if t not in self.special_tokens}
        self._tokens = _bytes_by_id(ordinary, self.special_tokens)
        self._pieces = _Pieces(ordinary, merges, whole_pieces=self.recipe.whole_pieces)
        names = {"bos_token": bos_token, "eos_token": eos_token}
        spelt = {k: self._tokens[i].decode() for k, i in names.items() if i in self._tokens}
        self.chat_template = None if chat_template is None else ChatTemplate(chat_template, **spelt)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> "PretrainedBPE":
        """Build the tokenizer from the named values of a GGUF file.

        Args:
            metadata: The values by name.

        Returns:
            The tokenizer.

        Raises:
            ValueError: If the file holds none, or one of another kind.
        """
        kind = metadata.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ValueError(f"the file's tokenizer is {kind!r}; only byte-level BPE is supported")
        cut = metadata.get("tokenizer.ggml.pre", "default")
        if cut not in GGUF_RECIPES:
            raise ValueError(
                f"the file's tokenizer cuts text as {cut!r}; supported are {sorted(GGUF_RECIPES)}"
            )
        tokens = metadata["tokenizer.ggml.tokens"]
        kinds = metadata.get("tokenizer.ggml.token_type") or [1] * len(tokens)
        special = {
            token: i
            for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind in (_CONTROL, _USER_DEFINED)
        }
        return cls(
            {token: i for i, token in enumerate(tokens)},
            [_pair(merge) for merge in metadata["tokenizer.ggml.merges"]],
            special,
            recipe=GGUF_RECIPES[cut],
            bos_token=metadata.get("tokenizer.ggml.bos_token_id"),
            eos_token=metadata.get("tokenizer.ggml.eos_token_id"),
            chat_template=metadata.get("tokenizer.chat_template"),
        )

    @classmethod
    def from_folder(cls, folder: str | Path) -> "PretrainedBPE":
        """Read `tokenizer.json` and, where they are, the chat template and the ends of a text.

        Args:
            folder: A folder as transformers writes it.

        Returns:
            The tokenizer.

        Raises:
            ValueError: If a file is missing or damaged, or the tokenizer of another kind.
        """
        folder = Path(folder)
        content = read_json(folder / "tokenizer.json")
        config_path = folder / "tokenizer_config.json"
        config = read_json(config_path) if config_path.exists() else {}
        model = content.get("model", {})
        if model.get("type") != "BPE":
            raise ValueError(f"the tokenizer is {model.get('type')!r}; only BPE is supported")
        special = {}
        for added in content.get("added_tokens", []):
            if added.get("lstrip") or added.get("rstrip") or added.get("single_word"):
                raise ValueError(f"the added token {added['content']!r} takes neighbouring text")
            special[added["content"]] = added["id"]
        template = folder / "chat_template.jinja"
        source = template.read_text("utf-8") if template.exists() else config.get("chat_template")
        known = {**model["vocab"], **special}
        return cls(
            model["vocab"],
            [_pair(merge) for merge in model["merges"]],
            special,
            recipe=recipe_of(content),
            bos_token=known.get(_spelling(config.get("bos_token"))),
            eos_token=known.get(_spelling(config.get("eos_token"))),
            chat_template=source,
        )

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return max(self._tokens) + 1

    @property
    def dtype(self) -> np.dtype:
        """The smallest unsigned type that holds every id: uint16 or uint32."""
        return np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that an id stands for.

        Args:
            token: An id.

        Returns:
            Its bytes; for a special token, its text in UTF-8.

        Raises:
            ValueError: If there is no such id.
        """
        if token not in self._tokens:
            raise ValueError(f"token id {token} is not in the vocabulary of {self.vocab_size}")
        return self._tokens[token]

    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        """Turn a text into ids.

        Args:
            text: Any text without lone surrogates.
            allowed_special: Special tokens that count as such where they stand in the text.

        Returns:
            The ids.

        Raises:
            ValueError: If the text holds a lone surrogate, or a name in `allowed_special` is no
                special token.
        """
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
        """
        return [self._encode_ordinary(text).astype(self.dtype) for text in texts]

    def decode(self, ids: Iterable[int], errors: str = "replace") -> str:
        """Turn ids back into text.

        Args:
            ids: Token ids.
            errors: What to do with bytes that are not whole UTF-8 characters: "replace", "ignore"
                or "strict".

        Returns:
            The text, special tokens spelt out.

        Raises:
            ValueError: If an id is not in the vocabulary, or `errors` is "strict" and the bytes
                are not UTF-8.
        """
        return b"".join([self.token_bytes(index(i)) for i in ids]).decode("utf-8", errors=errors)

    def chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Write a conversation out as the model was tuned on it.

        Args:
            messages: Turns, each with `role` and `content`.
            add_generation_prompt: End with the beginning of the assistant's next turn.

        Returns:
            The text. To get ids use `encode_chat`, which knows where each special token came from.

        Raises:
            ValueError: If there is no chat template, or it refuses the messages.
        """
        if self.chat_template is None:
            raise ValueError("this tokenizer has no chat template: it is not a chat model's")
        return self.chat_template.render(messages, add_generation_prompt=add_generation_prompt)

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Turn a conversation into ids; only the template's own special tokens count as such.

        Args:
            messages: Turns, each with `role` and `content`.
            add_generation_prompt: End with the beginning of the assistant's next turn.

        Returns:
            The ids. `<|im_end|>` typed by a user stays text and cannot end the turn.

        Raises:
            ValueError: If there is no chat template, or it refuses the messages.
        """
        # What the messages spell is replaced by characters that no message holds, so that after
        # rendering every special token left is the template's.
        source = "" if self.chat_template is None else self.chat_template.source
        seen = json.dumps(messages, ensure_ascii=False) + source
        hidden = _stand_ins(self.special_tokens, seen)
        safe = _replaced(list(messages), hidden)
        text = self.chat(safe, add_generation_prompt=add_generation_prompt)
        ids: list[int] = []
        for part in split_special(text, self.special_tokens, self.special_tokens):
            if part in self.special_tokens:
                ids.append(self.special_tokens[part])
                continue
            for token, stand_in in hidden.items():
                part = part.replace(stand_in, token)
            ids += self._encode_ordinary(part).tolist()
        return ids

    def _encode_ordinary(self, text: str) -> np.ndarray:
        try:
            parts = map(self._pieces.__getitem__, self.recipe.pieces(text))
            return np.frombuffer(b"".join(parts), dtype="<u4")
        except UnicodeEncodeError as error:
            raise surrogate_error(error) from error


class _Pieces(PieceEncoder):
    """Ids of each piece of text, in the file's numbering, filled on first use."""

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        *,
        whole_pieces: bool,
    ) -> None:
        # In the engine's numbering the bytes come first, then each spelling as a merge makes it.
        symbols = {letter: chr(rank) for rank, letter in enumerate(_BYTE_OF_LETTER)}
        to_file = [vocabulary.get(letter, 0) for letter in symbols]
        rules = []
        for first, second in merges:
            joined = first + second
            if first not in symbols or second not in symbols or joined not in vocabulary:
                raise ValueError(
                    f"the merge of {first!r} and {second!r} joins or makes what is no token yet: "
                    "the tokenizer's file is damaged"
                )
            if joined not in symbols:
                symbols[joined] = chr(len(symbols))
                to_file.append(vocabulary[joined])
            rules.append((symbols[first] + symbols[second], symbols[joined]))
        super().__init__(rules)
        self._to_file = np.array(to_file, dtype="<u4")
        self._missing = bytes(b for a, b in _BYTE_OF_LETTER.items() if a not in vocabulary)
        self._whole = {_spelled(t): i for t, i in vocabulary.items()} if whole_pieces else {}

    def __missing__(self, piece: str) -> bytes:
        data = piece.encode().translate(None, self._missing)
        if data in self._whole:
            ids = np.uint32(self._whole[data]).tobytes()
        else:
            merged = self.merge(as_symbols(data)).encode("utf-32-le", "surrogatepass")
            ids = self._to_file[np.frombuffer(merged, dtype="<u4")].tobytes()
        if len(piece) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_PIECES:
                self.clear()
            self[piece] = ids
        return ids


def _spelled(token: str) -> bytes:
    """Return the bytes of a token written in GPT-2's letters."""
    if all(letter in _BYTE_OF_LETTER for letter in token):
        return bytes(_BYTE_OF_LETTER[letter] for letter in token)
    return token.encode()


def _bytes_by_id(ordinary: Mapping[str, int], special: Mapping[str, int]) -> dict[int, bytes]:
    tokens = {i: _spelled(token) for token, i in ordinary.items()}
    tokens |= {i: token.encode() for token, i in special.items()}
    if len(tokens) != len(ordinary) + len(special):
        raise ValueError("two tokens have one id: the tokenizer's file is damaged")
    return tokens


def _stand_ins(names: Iterable[str], text: str) -> dict[str, str]:
    """Give each token a rare character (of CJK extension B) that does not stand in the text."""
    free = (chr(code) for code in range(0x20000, 0x2A6D0) if chr(code) not in text)
    # The longest first, so that a token inside another is not replaced before it.
    return {name: next(free) for name in sorted(names, key=len, reverse=True)}


def _replaced(value: Any, stand_ins: Mapping[str, str]) -> Any:
    """Replace special tokens in every text of a nest of lists and dictionaries."""
    if isinstance(value, str):
        for token, stand_in in stand_ins.items():
            value = value.replace(token, stand_in)
        return value
    if isinstance(value, Mapping):
        return {key: _replaced(item, stand_ins) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, stand_ins) for item in value]
    return value


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """Read a merge, which older files write as one text with a space."""
    parts = merge.split(" ") if isinstance(merge, str) else list(merge)
    if len(parts) != 2:
        raise ValueError(f"the merge {merge!r} does not join two tokens: the file is damaged")
    return parts[0], parts[1]


def _spelling(entry: Any) -> str:
    """Return a special token's text, which older files wrap in a dictionary."""
    return entry.get("content", "") if isinstance(entry, Mapping) else str(entry or "")
