"""How published byte-level tokenizers cut a text before they merge, read from their files."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from llmlib.data.tokenizers.pretokenization import (
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    SINGLE_DIGITS_PATTERN,
    PieceCut,
    cut_by,
    pretokenize,
)


@dataclass(frozen=True)
class TokenizerRecipe:
    """What happens to a text before the merges."""

    cut: PieceCut = field(default_factory=lambda: pretokenize)  # a plain default would be a method
    """Turns a text into pieces that merges do not cross."""

    normal_form: str | None = None
    """Unicode normal form that the text is brought to first."""

    whole_pieces: bool = False
    """Give a piece that is a token its id without trying the merges."""

    def pieces(self, text: str) -> list[str]:
        """Normalize a text and cut it."""
        if self.normal_form is not None:
            text = unicodedata.normalize(self.normal_form, text)  # pyright: ignore[reportArgumentType]
        return self.cut(text)


GGUF_RECIPES: dict[str, TokenizerRecipe] = {
    "default": TokenizerRecipe(),
    "gpt-2": TokenizerRecipe(),
    "smollm": TokenizerRecipe(cut_by(SINGLE_DIGITS_PATTERN)),
    "llama-bpe": TokenizerRecipe(cut_by(LLAMA3_PATTERN), whole_pieces=True),
    "qwen2": TokenizerRecipe(cut_by(QWEN2_PATTERN), normal_form="NFC"),
}
"""The recipes by the name that `tokenizer.ggml.pre` gives them."""


def recipe_from_json(content: Mapping[str, Any]) -> TokenizerRecipe:
    """Read the recipe from the parsed content of a `tokenizer.json`.

    Raises:
        ValueError: If a part of it is not supported.
    """
    normalizer = content.get("normalizer")
    normal_form = None
    if normalizer is not None:
        normal_form = normalizer.get("type")
        if normal_form not in ("NFC", "NFD", "NFKC", "NFKD"):
            raise ValueError(f"the tokenizer's normalizer {normal_form!r} is not supported")
    step = content.get("pre_tokenizer")
    if step is None:
        raise ValueError("the tokenizer has no pre_tokenizer; byte-level BPE needs one")
    steps = step["pretokenizers"] if step.get("type") == "Sequence" else [step]
    whole = bool(content["model"].get("ignore_merges", False))
    return TokenizerRecipe(_cut_of(steps), normal_form, whole)


def _cut_of(steps: list[Mapping[str, Any]]) -> PieceCut:
    kinds = [step.get("type") for step in steps]
    if not steps or kinds[-1] != "ByteLevel":
        raise ValueError(f"the tokenizer cuts text by {kinds}: only byte-level BPE is supported")
    last = steps[-1]
    if last.get("add_prefix_space", True):
        raise ValueError("a byte-level tokenizer with add_prefix_space is not supported")
    by_gpt2 = last.get("use_regex", True)
    if kinds == ["ByteLevel"] and by_gpt2:
        return pretokenize
    if kinds == ["Digits", "ByteLevel"] and by_gpt2 and steps[0].get("individual_digits"):
        return cut_by(SINGLE_DIGITS_PATTERN)
    if kinds == ["Split", "ByteLevel"] and not by_gpt2:
        split = steps[0]
        if split.get("behavior") == "Isolated" and not split.get("invert"):
            pattern = split["pattern"]
            return cut_by(
                pattern["Regex"] if "Regex" in pattern else regex.escape(pattern["String"])
            )
    raise ValueError(f"the tokenizer cuts text in a way that is not supported: {steps}")
