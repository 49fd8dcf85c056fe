"""Deduplication below the document: passages of several sentences or lines, repeated phrases.

Web pages share menus, notices and quoted articles although no two pages are alike. A passage that
stood in an earlier document is cut out of the later one; a sentence that says one phrase over and
over is cut out wherever it stands. Every cut is returned with its reason.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import regex

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped
from llmlib.data.corpora.units import JOINED_WORD, LINE_END, LONE_WORD
from llmlib.data.deduplication.exact import normalize_for_matching, text_digest

# A sentence ends at its mark and what closes after it, if white space and no small letter follows
# ("e.g. this" goes on); ideographic marks need no space; a blank line ends one in any case. A row
# of marks or of white space is read once, from its first on, and never given back.
_SENTENCE_END = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s++[^\sa-zß-öø-ÿ]|\s*+\Z)|[。！？]+[”」』）]*|"
    rf"{LINE_END}(?:[^\S\n\r\x85\u2028\u2029]*+{LINE_END})++"
)
_LINE_END = re.compile(LINE_END)
_SPACE = re.compile(r"\s*")
_WORD = regex.compile(rf"{LONE_WORD}|{JOINED_WORD}(?:['’]{JOINED_WORD})*")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A stretch that was taken out of a document, and why, in words."""

    document: Document
    """As it was."""
    start: int
    """Where the stretch began, in characters of the text."""
    stop: int
    reason: str

    @property
    def text(self) -> str:
        """The stretch itself."""
        return self.document.text[self.start : self.stop]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Split a text into sentences by their end marks.

    A sentence ends with ".", "!", "?" or "…" before white space and anything but a small letter,
    with "。", "！" or "？", or at a blank line. Abbreviations before a capital ("Dr. Lee") split
    wrongly, which matters little here: they do so in every copy. White space around a sentence is
    left out.

    Example:
        >>> text = "Is it 3.5 m, i.e. short? No! "
        >>> [text[start:stop] for start, stop in sentence_spans(text)]
        ['Is it 3.5 m, i.e. short?', 'No!']
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return _trimmed(text, [0, *ends, len(text)])


def line_spans(text: str) -> list[tuple[int, int]]:
    r"""Split a text into its lines, without white space around them and without empty ones.

    Example:
        >>> line_spans("one\n\n  two\n")
        [(0, 3), (7, 10)]
    """
    return _trimmed(text, [0, *(match.end() for match in _LINE_END.finditer(text)), len(text)])


def deduplicate_passages(
    documents: Iterable[Document],
    unit: Literal["sentence", "line"] = "sentence",
    length: int = 3,
) -> tuple[list[Document], list[Dropped], list[Cut]]:
    """Cut out every run of `length` sentences or lines that stood earlier in the corpus.

    Sentences are compared without regard to case, white space and Unicode composition. A run that
    overlaps its own first occurrence does not count, and single sentences ("Returns.") often repeat
    for good reason. The corpus is read once. Memory: 16 bytes and the overhead of a set entry for
    each sentence.

    Returns:
        The documents left, in order; those of which nothing is left, as they were; and the cuts.

    Raises:
        ValueError: If the length is below 1.

    Example:
        >>> texts = ("Hail. Rain. Snow. Sun.", "Fog. HAIL.  RAIN. Snow. Wind.")
        >>> corpus = [Document(text=text, source=f"d{i}") for i, text in enumerate(texts)]
        >>> kept, dropped, cuts = deduplicate_passages(corpus)
        >>> kept[1].text, cuts[0].text, cuts[0].reason
        ('Fog. Wind.', 'HAIL.  RAIN. Snow.', 'repeated passage')

    References:
        Raffel et al. (2020), Exploring the Limits of Transfer Learning, section 2.2 (C4 keeps one
        copy of any span of three sentences).
    """
    if length < 1:
        raise ValueError(f"a passage has at least one {unit}, not {length}")
    split = sentence_spans if unit == "sentence" else line_spans
    seen: set[bytes] = set()

    def repeated(text: str) -> list[tuple[int, int]]:
        spans = split(text)
        units = [normalize_for_matching(text[start:stop]) for start, stop in spans]
        passages = [
            text_digest("\n".join(units[k : k + length])) for k in range(len(units) - length + 1)
        ]
        doomed = [False] * len(units)
        for k, passage in enumerate(passages):
            if k >= length:  # the passage that ended just before this one is an earlier one now
                seen.add(passages[k - length])
            if passage in seen:
                doomed[k : k + length] = [True] * length
        seen.update(passages)
        return [span for span, gone in zip(spans, doomed, strict=True) if gone]

    return _cut_all(documents, repeated, "repeated passage")


def repetition(text: str, max_words: int = 8) -> float:
    r"""Share of a sentence's words that belong to its most repeated phrase.

    $\max_g |g| \, c(g) / n$ over the phrases g of 1 to `max_words` words that occur at least three
    times without overlap, where $|g|$ is the phrase's length, c(g) how often it occurs and n
    the number of words.

    The share is 0 where no phrase stands three times, 1 where there is nothing but one phrase.

    Example:
        >>> repetition("The dog saw the cat and the bird.")
        0.375
    """
    words = _WORD.findall(normalize_for_matching(text))
    best = 0
    for n in range(1, min(max_words, len(words) // 3) + 1):
        counts: Counter[tuple[str, ...]] = Counter()
        free_from: dict[tuple[str, ...], int] = {}
        for start in range(len(words) - n + 1):
            phrase = tuple(words[start : start + n])
            if free_from.get(phrase, 0) <= start:
                counts[phrase] += 1
                free_from[phrase] = start + n
        most = max(counts.values())
        if most >= 3:
            best = max(best, n * most)
    return best / len(words) if words else 0.0


def drop_repetitive_sentences(
    documents: Iterable[Document], max_repetition: float = 0.5
) -> tuple[list[Document], list[Dropped], list[Cut]]:
    """Cut out the sentences that consist mostly of one phrase, said at least three times.

    Such sentences teach a model to repeat itself. One goes if its `repetition` is above
    `max_repetition`, 0 to 1.

    Returns:
        As `deduplicate_passages`.

    Raises:
        ValueError: If `max_repetition` is out of range.

    Example:
        >>> text = "The shop opens at nine. Sale sale sale sale today! Parking is free."
        >>> kept, dropped, cuts = drop_repetitive_sentences([Document(text=text, source="x")])
        >>> kept[0].text, cuts[0].reason
        ('The shop opens at nine. Parking is free.', 'repeated phrase')

    References:
        Zhao et al. (2023), A Survey of Large Language Models, section 4.1.2 (deduplication of
        sentences).
    """
    if not 0 <= max_repetition <= 1:
        raise ValueError(f"max_repetition={max_repetition} is a share of a sentence: 0 to 1")

    def repetitive(text: str) -> list[tuple[int, int]]:
        spans = sentence_spans(text)
        return [(a, b) for a, b in spans if repetition(text[a:b]) > max_repetition]

    return _cut_all(documents, repetitive, "repeated phrase")


def _trimmed(text: str, edges: list[int]) -> list[tuple[int, int]]:
    """The stretches between edges, without white space at their ends and without empty ones."""
    spans = []
    for start, stop in zip(edges, edges[1:], strict=False):
        piece = text[start:stop]
        start += len(piece) - len(piece.lstrip())
        stop -= len(piece) - len(piece.rstrip())
        if start < stop:
            spans.append((start, stop))
    return spans


def _cut_all(
    documents: Iterable[Document], find: Callable[[str], list[tuple[int, int]]], reason: str
) -> tuple[list[Document], list[Dropped], list[Cut]]:
    """Take the stretches that a function finds out of each document."""
    kept, dropped, cuts = [], [], []
    for document in documents:
        spans = _joined(document.text, find(document.text))
        if not spans:
            kept.append(document)
            continue
        cuts += [Cut(document=document, start=a, stop=b, reason=reason) for a, b in spans]
        text = _without(document.text, spans)
        if text:
            kept.append(document.with_text(text))
        else:
            dropped.append(Dropped(document=document, reason=reason))
    return kept, dropped, cuts


def _joined(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join stretches that only white space separates."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and not text[joined[-1][1] : start].strip():
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text without some stretches, each cut with the white space after it."""
    pieces, end = [], 0
    for start, stop in spans:
        pieces.append(text[end:start])
        space = _SPACE.match(text, stop)
        assert space is not None
        end = space.end()
    if end == len(text):
        return "".join(pieces).rstrip()
    return "".join([*pieces, text[end:]])
