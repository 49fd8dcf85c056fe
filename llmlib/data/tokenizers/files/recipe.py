"""How published byte-level tokenizers cut a text before they merge, read from their files."""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from llmlib.data.tokenizers.bpe.symbols import BYTE_ORDER
from llmlib.data.tokenizers.files.patterns import check_pattern
from llmlib.data.tokenizers.pretokenization import (
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    SINGLE_DIGITS_PATTERN,
    PieceCut,
    cut_by,
    pretokenize,
)

# GPT-2's vocabulary files write a byte that has no printable character of its own as one from
# U+0100 on: a space is U+0120.
BYTE_OF_LETTER: dict[str, int] = {
    chr(byte) if rank < 188 else chr(256 + rank - 188): byte for rank, byte in enumerate(BYTE_ORDER)
}


@dataclass(frozen=True)
class TokenizerRecipe:
    """What happens to a text before the merges."""

    cut: PieceCut = field(default_factory=lambda: pretokenize)  # a plain default would be a method
    """Turns a text into pieces that merges do not cross."""

    normal_form: str | None = None
    """Unicode normal form that the text is brought to first."""

    whole_pieces: bool = False
    """Give a piece that is a token its id without trying the merges."""

    def normalize(self, text: str) -> str:
        """Bring a text to the normal form."""
        if self.normal_form is None:
            return text
        return unicodedata.normalize(self.normal_form, text)  # pyright: ignore[reportArgumentType]

    def pieces(self, text: str) -> list[str]:
        """Normalize a text and cut it."""
        return self.cut(self.normalize(text))


GGUF_RECIPES: dict[str, TokenizerRecipe] = {
    "default": TokenizerRecipe(),
    "gpt-2": TokenizerRecipe(),
    "smollm": TokenizerRecipe(cut_by(SINGLE_DIGITS_PATTERN)),
    "llama-bpe": TokenizerRecipe(cut_by(LLAMA3_PATTERN), whole_pieces=True),
    "qwen2": TokenizerRecipe(cut_by(QWEN2_PATTERN), normal_form="NFC"),
}
"""The recipes by the name that `tokenizer.ggml.pre` gives them."""


_NORMAL_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
_PARTS = {
    *("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"),
    *("post_processor", "decoder", "model"),
}
_OF_UNKNOWN = ("unk_token", "fuse_unk", "byte_fallback")  # what a byte without a token becomes
_OF_MODEL = {
    *("type", "vocab", "merges", "ignore_merges", "dropout", "continuing_subword_prefix"),
    *("end_of_word_suffix", *_OF_UNKNOWN),
}

Frame = tuple[tuple[int, ...], tuple[int, ...]]
"""Ids that a file puts before and behind a text."""


def check_file(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the model of a `tokenizer.json` whose every option is read here.

    Raises:
        ValueError: If an option is set that this reader would have to pass over.
    """
    _check_known(content, _PARTS, "the tokenizer")
    for part in ("truncation", "padding"):
        if content.get(part) is not None:
            raise ValueError(f"the tokenizer's {part} is not supported: ids come whole")
    model = content.get("model") or {}
    # Early files name no type; tokenizers takes a model with merges for BPE.
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE":
        raise ValueError(f"the tokenizer is {kind!r}; only BPE is supported")
    _check_known(model, _OF_MODEL, "the tokenizer's model")
    for option in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(option):
            raise ValueError(f"the tokenizer's {option} of {model[option]!r} is not supported")
    bytes_missing = not all(letter in model["vocab"] for letter in BYTE_OF_LETTER)
    for option in _OF_UNKNOWN:
        if model.get(option) and bytes_missing:
            raise ValueError(
                f"the tokenizer's {option} of {model[option]!r} is not supported where bytes have "
                "no token"
            )
    decoder = content.get("decoder")
    if decoder is not None and decoder.get("type") != "ByteLevel":
        raise ValueError(f"the tokenizer's decoder {decoder.get('type')!r} is not supported")
    return model


def recipe_from_json(content: Mapping[str, Any]) -> TokenizerRecipe:
    """Read the recipe from the parsed content of a `tokenizer.json`.

    Raises:
        ValueError: If a part of it is not supported.
    """
    normalizer = content.get("normalizer")
    forms = [step.get("type") for step in _steps(normalizer, "normalizers")]
    if len(forms) > 1 or any(form not in _NORMAL_FORMS for form in forms):
        raise ValueError(
            f"the tokenizer's normalizer {', '.join(map(repr, forms))} is not supported"
        )
    step = content.get("pre_tokenizer")
    if step is None:
        raise ValueError("the tokenizer has no pre_tokenizer; byte-level BPE needs one")
    whole = bool(content["model"].get("ignore_merges", False))
    return TokenizerRecipe(
        _cut_of(_steps(step, "pretokenizers")), forms[0] if forms else None, whole
    )


def frame_from_json(content: Mapping[str, Any]) -> Frame:
    """Read from a `tokenizer.json` which ids stand round a text by itself.

    Raises:
        ValueError: If the text is not there once, or the step is not known.
    """
    before: tuple[int, ...] = ()
    behind: tuple[int, ...] = ()
    for step in _steps(content.get("post_processor"), "processors"):
        kind = step.get("type")
        if kind == "TemplateProcessing":
            ids = {name: entry["ids"] for name, entry in step["special_tokens"].items()}
            single = [*step["single"]]
            places = [at for at, piece in enumerate(single) if "Sequence" in piece]
            if len(places) != 1:
                raise ValueError(f"the tokenizer's template {single} does not hold the text once")
            named = [ids[p["SpecialToken"]["id"]] if "SpecialToken" in p else [] for p in single]
            left, right = sum(named[: places[0]], []), sum(named[places[0] :], [])
        elif kind in ("BertProcessing", "RobertaProcessing"):
            left, right = [step["cls"][1]], [step["sep"][1]]
        elif kind == "ByteLevel":  # moves offsets, which nobody here asks for
            continue
        else:
            raise ValueError(f"the tokenizer's post_processor {kind!r} is not supported")
        before, behind = (*left, *before), (*behind, *right)
    return before, behind


def _steps(part: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """The steps of a part, which are in a sequence, alone or none."""
    if part is None:
        return []
    if part.get("type") != "Sequence":
        return [part]
    return [step for inner in part[name] for step in _steps(inner, name)]


def _check_known(part: Mapping[str, Any], known: Collection[str], what: str) -> None:
    unknown = sorted(part.keys() - set(known))
    if unknown:
        raise ValueError(f"{what} has {unknown}, which this reader does not know")


def _cut_of(steps: list[Mapping[str, Any]]) -> PieceCut:
    kinds = [step.get("type") for step in steps]
    if not steps or kinds[-1] != "ByteLevel":
        raise ValueError(f"the tokenizer cuts text by {kinds}: only byte-level BPE is supported")
    last = steps[-1]
    if last.get("add_prefix_space", True):
        raise ValueError("a byte-level tokenizer with add_prefix_space is not supported")
    cuts = [_cut_by_step(step) for step in steps[:-1]]
    if last.get("use_regex", True):
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
            return cut_by(SINGLE_DIGITS_PATTERN)
        cuts.append(pretokenize)
    return cuts[0] if len(cuts) == 1 else _one_after_the_other(cuts)


def _cut_by_step(step: Mapping[str, Any]) -> PieceCut:
    if step.get("type") == "Digits":
        return cut_by(r"\p{N}" if step.get("individual_digits") else r"\p{N}+")
    # Of an inverted pattern the same pieces stand alone.
    if step.get("type") == "Split" and step.get("behavior") == "Isolated":
        literal = step["pattern"].get("String")
        return cut_by(
            regex.escape(literal) if literal else check_pattern(step["pattern"].get("Regex", ""))
        )
    raise ValueError(f"the tokenizer cuts text in a way that is not supported: {step}")


def _one_after_the_other(cuts: list[PieceCut]) -> PieceCut:
    def cut(text: str) -> list[str]:
        pieces = [text] if text else []
        for step in cuts:
            pieces = [piece for whole in pieces for piece in step(whole)]
        return pieces

    return cut
