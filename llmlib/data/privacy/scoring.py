"""How well spans are found: labelled text, and precision and recall with their uncertainty."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from llmlib.core.resources import resource
from llmlib.core.statistics import Interval, wilson
from llmlib.data.privacy.spans import PERSONAL_KINDS, Span

PARTS = ("development", "test", "worldwide", "unseen")
_MARKED = re.compile(r"\[\[(\w+)\|(.*?)\]\]")
_DRAWN = re.compile(r"\{(alnum|digit):(\d+)\}")
_ALPHABETS = {
    "alnum": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    "digit": "0123456789",
}


@dataclass(frozen=True)
class Labelled:
    """A text and the personal items in it."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class SpanScore:
    """Counts of exact matches.

    Example:
        >>> print(SpanScore(found=19, invented=1, missed=0).precision)
        0.95 [0.76, 0.99]
    """

    found: int
    """Spans of the labels that were found, with the same start, stop and kind."""
    invented: int
    missed: int

    @property
    def precision(self) -> Interval:
        """Share of what was found that is right, if anything was found."""
        return wilson(self.found, self.found + self.invented)

    @property
    def recall(self) -> Interval:
        """Share of what is there that was found, if anything is there."""
        return wilson(self.found, self.found + self.missed)


def parse_marked(marked: str) -> Labelled:
    """Read a text whose items are written as `[[kind|item]]`.

    Raises:
        ValueError: If a mark names an unknown kind.

    Example:
        >>> parse_marked("Write to [[email|ada@example.org]].").spans
        (Span(start=9, stop=24, kind='email', text='ada@example.org'),)
    """
    parts, spans, end, length = [], [], 0, 0
    for match in _MARKED.finditer(marked):
        kind, item = match.groups()
        if kind not in PERSONAL_KINDS:
            raise ValueError(f"unknown kind {kind!r} in {match[0]!r}; choose from {PERSONAL_KINDS}")
        parts += [marked[end : match.start()], item]
        length += match.start() - end
        spans.append(Span(length, length + len(item), kind, item))
        length, end = length + len(item), match.end()
    return Labelled("".join([*parts, marked[end:]]), tuple(spans))


def labelled_texts(part: str) -> list[Labelled]:
    """Read the labelled texts, with near-misses, that come with the book.

    Random strings in them are drawn here, always the same, so that no file of the project holds
    what looks like a key.

    Args:
        part: `development` and `worldwide` (many countries and scripts), which were read while the
            rules were written; `test` and `unseen`, of the same two sorts, which were not.

    Raises:
        ValueError: If there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; choose from {PARTS}")
    lines = resource("privacy/labelled.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    generator = np.random.default_rng(0)

    def draw(match: re.Match[str]) -> str:
        return "".join(generator.choice([*_ALPHABETS[match[1]]], int(match[2])))

    texts = [(row["part"], _DRAWN.sub(draw, row["text"])) for row in rows]
    return [parse_marked(text) for found, text in texts if found == part]


def score_spans(
    found: Iterable[Sequence[Span]], expected: Iterable[Sequence[Span]]
) -> dict[str, SpanScore]:
    """Count exact matches by kind over many texts, found and expected in the same order.

    Returns:
        A score for each kind that occurs, in the order of `PERSONAL_KINDS`, and one for `all`.
    """
    counts: dict[str, list[int]] = {kind: [0, 0, 0] for kind in (*PERSONAL_KINDS, "all")}
    for ours, labels in zip(found, expected, strict=True):
        for number, spans in enumerate(
            (set(ours) & set(labels), set(ours) - set(labels), set(labels) - set(ours))
        ):
            for span in spans:
                counts[span.kind][number] += 1
                counts["all"][number] += 1
    return {kind: SpanScore(*count) for kind, count in counts.items() if any(count)}
