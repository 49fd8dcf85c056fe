"""Tokenizers that published models come with: byte-level BPE whose ids a file decides.

`ByteBPE` numbers its tokens in the order in which they were learnt. A published vocabulary has
its own order, its own special tokens and its own way of cutting text into pieces. The merging is
the same, so the engine of `ByteBPE` does it, and its ids are then translated.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from llmlib.core.files import read_json
from llmlib.core.task import Message
from llmlib.data.tokenizers.base import check_text
from llmlib.data.tokenizers.bpe.merging import PieceMerger, rules_by_spelling
from llmlib.data.tokenizers.bpe.symbols import BYTE_ORDER
from llmlib.data.tokenizers.byte_level import ByteLevelTokenizer
from llmlib.data.tokenizers.chat_template import ChatTemplate
from llmlib.data.tokenizers.files.recipe import GGUF_RECIPES, TokenizerRecipe, recipe_from_json

_CONTROL, _USER_DEFINED = 3, 4  # GGUF's types of tokens that stand outside the merges

# GPT-2's vocabulary files write a byte that has no printable character of its own as one from
# U+0100 on: a space is U+0120.
_BYTE_OF_LETTER: dict[str, int] = {
    chr(byte) if rank < 188 else chr(256 + rank - 188): byte for rank, byte in enumerate(BYTE_ORDER)
}


class PretrainedBPE(ByteLevelTokenizer):
    """A byte-level BPE tokenizer with the ids of a published model.

    Text is text: a special token spelt out in it is encoded letter by letter unless `encode` is
    told to take it for one. Bytes that the vocabulary lacks (SmolLM2's has no token for 21 bytes,
    most of which UTF-8 never uses) are left out, as `tokenizers` does.

    Args:
        vocabulary: Ids by token, in the letters of GPT-2's files.
        merges: Pairs of tokens, first to be merged first.
        special_tokens: Ids by text of the tokens that stand outside the merges.
        bos_token: Id with which a text begins, if the model expects one.
        eos_token: Id that ends a text, or an assistant's turn.

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
        recipe: TokenizerRecipe | None = None,
        bos_token: int | None = None,
        eos_token: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        special = special_tokens or {}
        ordinary = {t: i for t, i in vocabulary.items() if t not in special}
        super().__init__(((i, _spelled(token)) for token, i in ordinary.items()), special)
        self.recipe = recipe or TokenizerRecipe()
        self.bos_token, self.eos_token = bos_token, eos_token
        # In the engine ids count from the bytes in order; those that the file lacks are left out.
        symbols = {letter: chr(rank) for rank, letter in enumerate(_BYTE_OF_LETTER)}
        self._merger = PieceMerger(rules_by_spelling(merges, symbols))
        wrong = symbols.keys() - ordinary.keys() - _BYTE_OF_LETTER.keys()
        if wrong:
            raise ValueError(
                f"merges make {sorted(wrong)}, which are no tokens: the file is damaged"
            )
        self._to_file = np.array([ordinary.get(spelt, 0) for spelt in symbols], dtype="<u4")
        self._missing = bytes(b for a, b in _BYTE_OF_LETTER.items() if a not in ordinary)
        self._whole: dict[bytes, int] = {}
        if self.recipe.whole_pieces:
            self._whole = {_spelled(token): i for token, i in ordinary.items()}
        names = {"bos_token": bos_token, "eos_token": eos_token}
        spelt = {k: self._tokens[i].decode() for k, i in names.items() if i in self._tokens}
        self.chat_template = None if chat_template is None else ChatTemplate(chat_template, **spelt)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> "PretrainedBPE":
        """Build the tokenizer from the named values of a GGUF file.

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
        """Read a folder as transformers writes it.

        It holds `tokenizer.json`, and perhaps the chat template and the ends of a text.

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
            recipe=recipe_from_json(content),
            bos_token=known.get(_spelling(config.get("bos_token"))),
            eos_token=known.get(_spelling(config.get("eos_token"))),
            chat_template=source,
        )

    def chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Write a conversation out as the model was tuned on it.

        To get ids use `encode_chat`, which knows where each special token came from.

        Args:
            add_generation_prompt: End with the beginning of the assistant's next turn.

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

        `<|im_end|>` typed by a user stays text and cannot end the turn.

        Raises:
            ValueError: If there is no chat template, it refuses the messages, or one of them holds
                a lone surrogate.
        """
        # What the messages spell is replaced by characters that no message holds, so that after
        # rendering every special token left is the template's.
        source = "" if self.chat_template is None else self.chat_template.source
        seen = json.dumps(messages, ensure_ascii=False) + source
        hidden = _stand_ins(self.special_tokens, seen)
        safe = _replaced(list(messages), hidden)
        text = self.chat(safe, add_generation_prompt=add_generation_prompt)
        check_text(text)

        def encode(part: str) -> np.ndarray:
            for token, stand_in in hidden.items():
                part = part.replace(stand_in, token)
            return self._encode_ordinary(part)

        return self._encode_round(text, self.special_tokens, encode)

    @override
    def _split(self, text: str) -> list[str]:
        return self.recipe.pieces(text)

    @override
    def _encode_piece(self, piece: str) -> bytes:
        data = piece.encode().translate(None, self._missing)
        if data in self._whole:
            return np.uint32(self._whole[data]).tobytes()
        merged = np.frombuffer(self._merger.encode(data), dtype="<u4")
        return self._to_file[merged].tobytes()


def _spelled(token: str) -> bytes:
    """The bytes of a token written in GPT-2's letters."""
    if all(letter in _BYTE_OF_LETTER for letter in token):
        return bytes(_BYTE_OF_LETTER[letter] for letter in token)
    return token.encode()


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
