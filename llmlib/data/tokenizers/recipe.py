"""How published byte-level tokenizers cut a text before they merge, read from their files."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import regex

from llmlib.data.tokenizers.pretokenization import pretokenize

Cut = Callable[[str], list[str]]

# GPT-2's pattern where each digit is a piece and so ends the white space before it.
SINGLE_DIGITS_PATTERN = (
    r"'(?:[stmd]|re|ve|ll)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_PATTERN = LLAMA3_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}")


@dataclass(frozen=True)
class Recipe:
    """What happens to a text before the merges.

    Attributes:
        cut: Turns a text into pieces that merges do not cross.
        normal_form: Unicode normal form that the text is brought to first, or None.
        whole_pieces: Give a piece that is a token its id without trying the merges.
    """

    cut: Cut = field(default_factory=lambda: pretokenize)  # a plain default would be a method
    normal_form: str | None = None
    whole_pieces: bool = False

    def pieces(self, text: str) -> list[str]:
        """Cut a text.

        Args:
            text: Any string.

        Returns:
            Its pieces, after normalization.
        """
        if self.normal_form is not None:
            text = unicodedata.normalize(self.normal_form, text)  # pyright: ignore[reportArgumentType]
        return self.cut(text)


def cut_by(pattern: str) -> Cut:
    """Return a function that cuts at every match of a pattern, keeping what lies between.

    Args:
        pattern: A regular expression as tokenizer files have it.

    Returns:
        The function.

    Raises:
        ValueError: If the pattern is not valid.

    Example:
        >>> cut_by(SINGLE_DIGITS_PATTERN)("in 1984")
        ['in', ' ', '1', '9', '8', '4']
    """
    try:
        compiled = regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"the pattern {pattern!r} cannot be read: {error}") from error

    def cut(text: str) -> list[str]:
        pieces, end = [], 0
        for match in compiled.finditer(text):
            if match.start() > end:
                pieces.append(text[end : match.start()])
            if match.end() > match.start():
                pieces.append(match.group())
            end = match.end()
        if end < len(text):
            pieces.append(text[end:])
        return pieces

    return cut


GGUF_RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "gpt-2": Recipe(),
    "smollm": Recipe(cut_by(SINGLE_DIGITS_PATTERN)),
    "llama-bpe": Recipe(cut_by(LLAMA3_PATTERN), whole_pieces=True),
    "qwen2": Recipe(cut_by(QWEN2_PATTERN), normal_form="NFC"),
}
"""The recipes by the name that `tokenizer.ggml.pre` gives them."""


def recipe_of(content: Mapping[str, Any]) -> Recipe:
    """Read the recipe from the content of a `tokenizer.json`.

    Args:
        content: The parsed file.

    Returns:
        The recipe.

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
    return Recipe(_cut_of(steps), normal_form, whole)


def _cut_of(steps: list[Mapping[str, Any]]) -> Cut:
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
