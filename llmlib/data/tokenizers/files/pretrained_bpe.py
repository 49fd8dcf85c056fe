"""Tokenizers that published models come with: byte-level BPE whose ids a file decides.

`ByteBPE` numbers its tokens in the order in which they were learnt. A published vocabulary has
its own order, its own special tokens and its own way of cutting text into pieces. The merging is
the same, so the engine of `ByteBPE` does it, and its ids are then translated.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

from llmlib.core.files import read_json
from llmlib.core.task import Message
from llmlib.data.tokenizers.base import check_allowed, check_special_tokens, check_text
from llmlib.data.tokenizers.bpe.merging import PieceMerger, rules_by_spelling
from llmlib.data.tokenizers.byte_level import ByteLevelTokenizer
from llmlib.data.tokenizers.chat_template import ChatTemplate
from llmlib.data.tokenizers.files.added_tokens import AddedToken, AddedTokenSplitter
from llmlib.data.tokenizers.files.recipe import (
    BYTE_OF_LETTER,
    GGUF_RECIPES,
    Frame,
    TokenizerRecipe,
    check_file,
    frame_from_json,
    recipe_from_json,
)

_CONTROL, _USER_DEFINED = 3, 4  # GGUF's types of tokens that stand outside the merges
_NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


class PretrainedBPE(ByteLevelTokenizer):
    """A byte-level BPE tokenizer with the ids of a published model.

    Text is text: a special token spelt out in it is encoded letter by letter unless `encode` is
    told to take it for one; one that is a single letter of the alphabet is that letter. Added
    tokens that are not special count wherever they stand. Bytes that the vocabulary lacks
    (SmolLM2's has no token for 21 bytes, most of which UTF-8 never uses) are left out, as
    `tokenizers` does. A file with an option that is not read is refused.

    Args:
        vocabulary: Ids by token, in the letters of GPT-2's files.
        merges: Pairs of tokens, first to be merged first.
        special_tokens: Ids by text of special tokens that stand outside the merges.
        added_tokens: More of them, special or not.
        bos_token: Id with which a text begins, if the model expects one.
        eos_token: Id that ends a text, or an assistant's turn.
        frame: Ids that the file's post-processor puts before and behind a text; `encode` does not.
        chat_template: Its source, which may name `bos_token` and `eos_token`, or the template.

    Raises:
        ValueError: If a merge spells no token of the vocabulary, two tokens have one id, or one id
            would stand for two texts.

    References:
        Radford et al. (2019), Language Models are Unsupervised Multitask Learners, section 2.2.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Iterable[tuple[str, str]],
        special_tokens: Mapping[str, int] | None = None,
        *,
        added_tokens: Iterable[AddedToken] = (),
        recipe: TokenizerRecipe | None = None,
        bos_token: int | None = None,
        eos_token: int | None = None,
        frame: Frame = ((), ()),
        chat_template: str | ChatTemplate | None = None,
    ) -> None:
        special = [AddedToken(text=t, id=i) for t, i in (special_tokens or {}).items()]
        added = [*special, *added_tokens]
        check_special_tokens([token.text for token in added])
        self._added = {token.text: token for token in added}
        self.recipe = recipe or TokenizerRecipe()
        ordinary = [(i, _spelled(t)) for t, i in vocabulary.items() if t not in self._added]
        super().__init__(
            [*ordinary, *((token.id, self._text_of(token).encode()) for token in added)], {}
        )
        self.special_tokens = {token.text: token.id for token in added if token.special}
        self._always = frozenset(self._added.keys() - self.special_tokens.keys())
        self._splitters: dict[frozenset[str], tuple[AddedTokenSplitter, AddedTokenSplitter]] = {}
        self.bos_token, self.eos_token, self.frame = bos_token, eos_token, frame
        # In the engine ids count from the bytes in order; those that the file lacks are left out.
        # The vocabulary goes first: a merge may stand before those that make its parts.
        symbols = {letter: chr(rank) for rank, letter in enumerate(BYTE_OF_LETTER)}
        for token in vocabulary:
            symbols.setdefault(token, chr(len(symbols)))
        rules = rules_by_spelling(merges, symbols)
        self._merger = PieceMerger(rules)
        wrong = symbols.keys() - vocabulary.keys() - BYTE_OF_LETTER.keys()
        if wrong:
            raise ValueError(
                f"merges make {sorted(wrong)}, which are no tokens: the file is damaged"
            )
        spellings = list(symbols)
        self._check_added(vocabulary, {spellings[ord(made)] for _, made in rules})
        self._to_file = np.array([vocabulary.get(spelt, 0) for spelt in symbols], dtype="<u4")
        self._missing = bytes(b for a, b in BYTE_OF_LETTER.items() if a not in vocabulary)
        self._whole: dict[bytes, int] = {}
        if self.recipe.whole_pieces:
            whole = vocabulary.keys() - self.special_tokens.keys()
            self._whole = {_spelled(token): vocabulary[token] for token in whole}
        if isinstance(chat_template, str):
            names = {"bos_token": bos_token, "eos_token": eos_token}
            spelt = {k: self._tokens[i].decode() for k, i in names.items() if i in self._tokens}
            chat_template = ChatTemplate(chat_template, **spelt)
        self.chat_template = chat_template

    def _text_of(self, token: AddedToken) -> str:
        return self.recipe.normalize(token.text) if token.normalized else token.text

    def _check_added(self, vocabulary: Mapping[str, int], made: Collection[str]) -> None:
        """Refuse added tokens of which a text or an id could be read in two ways."""
        if any(token.rstrip for token in self._added.values()):
            for text in self._added:
                if text[0].isspace():  # tokenizers gives such white space to both
                    raise ValueError(f"the added token {text!r} begins with what others take")
        for text, token in self._added.items():
            if vocabulary.get(text, token.id) != token.id:
                raise ValueError(f"the added token {text!r} has another id in the vocabulary")
            letter = text in BYTE_OF_LETTER and text in vocabulary
            if (letter or text in made) and _spelled(text) != text.encode():
                raise ValueError(f"the added token {text!r} has the id of another text's bytes")
            if text in made and token.special:
                raise ValueError(f"merges make the special token {text!r}: any text could hold it")

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
        if metadata.get("tokenizer.ggml.add_space_prefix"):
            raise ValueError("a byte-level tokenizer with add_space_prefix is not supported")
        ends = {name: metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
        before, behind = (
            (end,) if end is not None and metadata.get(f"tokenizer.ggml.add_{name}_token") else ()
            for name, end in ends.items()
        )
        return cls(
            {token: i for i, token in enumerate(tokens)},
            [_pair(merge) for merge in metadata["tokenizer.ggml.merges"]],
            added_tokens=[
                AddedToken(text=token, id=i, special=kind == _CONTROL)
                for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
                if kind in (_CONTROL, _USER_DEFINED)
            ],
            recipe=GGUF_RECIPES[cut],
            bos_token=ends["bos"],
            eos_token=ends["eos"],
            frame=(before, behind),
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
        try:
            return cls._from_content(folder, content, config)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder}: the tokenizer's files are damaged: {error!r}") from error

    @classmethod
    def _from_content(
        cls, folder: Path, content: Mapping[str, Any], config: Mapping[str, Any]
    ) -> "PretrainedBPE":
        model = check_file(content)
        names = {name: text for name in _NAMED if (text := _spelling(config.get(name)))}
        more = config.get("additional_special_tokens") or ()
        special = {*names.values(), *map(_spelling, more)}
        added = [AddedToken.from_json(e, special) for e in content.get("added_tokens") or ()]
        known = {**model["vocab"], **{token.text: token.id for token in added}}
        for number, entry in (config.get("added_tokens_decoder") or {}).items():
            if entry["content"] not in known:
                added.append(AddedToken.from_json({**entry, "id": int(number)}, special))
                known[entry["content"]] = int(number)
        source = _chat_template(folder, config)
        return cls(
            model["vocab"],
            [_pair(merge) for merge in model["merges"]],
            added_tokens=added,
            recipe=recipe_from_json(content),
            bos_token=known.get(names.get("bos_token")),
            eos_token=known.get(names.get("eos_token")),
            frame=frame_from_json(content),
            chat_template=None if source is None else ChatTemplate(source, **names),
        )

    @override
    def encode(self, text: str, allowed_special: Collection[str] = frozenset()) -> list[int]:
        check_text(text)
        check_allowed(allowed_special, self.special_tokens)
        return self._among(text, self._always.union(allowed_special)).tolist()

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
        found = AddedTokenSplitter({t: self._added[t] for t in self.special_tokens}).split(text)
        ids: list[int] = []
        for part in found:
            if isinstance(part, int):
                ids.append(part)
                continue
            for token, stand_in in hidden.items():
                part = part.replace(stand_in, token)
            ids += self._encode_ordinary(part).tolist()
        return ids

    @override
    def _encode_ordinary(self, text: str) -> np.ndarray:
        return self._among(text, self._always)

    def _among(self, text: str, names: frozenset[str]) -> np.ndarray:
        """Ids of a text in which these added tokens count."""
        if not names:
            return super()._encode_ordinary(text)
        if names not in self._splitters:
            tokens = [self._added[name] for name in names]
            self._splitters[names] = (
                AddedTokenSplitter({t.text: t for t in tokens if not t.normalized}),
                AddedTokenSplitter({self._text_of(t): t for t in tokens if t.normalized}),
            )
        as_it_came, normalized = self._splitters[names]
        parts: list[str | int] = []
        for part in as_it_came.split(text):
            if isinstance(part, int):
                parts.append(part)
            else:
                parts += normalized.split(self.recipe.normalize(part))
        return np.concatenate([np.empty(0, "<u4"), *map(self._ids_of, parts)])

    def _ids_of(self, part: str | int) -> np.ndarray:
        """Ids of a normalized text, or of a token found."""
        if isinstance(part, int):
            return np.array([part], dtype="<u4")
        return self._pieces.encode(self.recipe.cut(part))

    @override
    def _split(self, text: str) -> list[str]:
        return self.recipe.pieces(text)

    @override
    def _encode_piece(self, piece: str) -> bytes:
        data = piece.encode()
        if data in self._whole:
            return np.uint32(self._whole[data]).tobytes()
        known = data.translate(None, self._missing)
        merged = np.frombuffer(self._merger.encode(known), dtype="<u4")
        return self._to_file[merged].tobytes()


def _spelled(token: str) -> bytes:
    """The bytes of a token written in GPT-2's letters."""
    if all(letter in BYTE_OF_LETTER for letter in token):
        return bytes(BYTE_OF_LETTER[letter] for letter in token)
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


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The source of a folder's chat template, the one called default where there are several."""
    alone = folder / "chat_template.jinja"
    if alone.exists():
        return alone.read_text("utf-8")
    older = folder / "chat_template.json"
    source = (read_json(older) if older.exists() else config).get("chat_template")
    if isinstance(source, list):
        named = {entry["name"]: entry["template"] for entry in source}
        if "default" not in named:
            raise ValueError(f"of the chat templates {sorted(named)} none is called 'default'")
        return named["default"]
    return source


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """Read a merge, which older files write as one text with a space."""
    parts = merge.split(" ") if isinstance(merge, str) else list(merge)
    if len(parts) != 2:
        raise ValueError(f"the merge {merge!r} does not join two tokens: the file is damaged")
    return parts[0], parts[1]


def _spelling(entry: Any) -> str:
    """Return a special token's text, which older files wrap in a dictionary."""
    return entry.get("content", "") if isinstance(entry, Mapping) else str(entry or "")
