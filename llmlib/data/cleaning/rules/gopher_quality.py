"""Gopher's quality rules: a page is judged by counts that any English prose keeps within bounds.

They presuppose English stop words, so put them behind the language step, or set `min_stop_words` to
zero: letters of scripts without spaces count as words, but have no length of words to judge.
"""

import re
from dataclasses import dataclass

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import (
    between_letters,
    is_unspaced,
    with_line_feeds,
    words_of,
)

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = ("•", "‣", "◦", "▪", "●", "-", "*", "–")
_ELLIPSES = ("...", "…")


@dataclass(frozen=True, kw_only=True)
class GopherQuality:
    """Bounds on words, symbols and lines of an English page.

    References:
        Rae et al. (2021), Scaling Language Models: Methods, Analysis & Insights from Training
        Gopher, appendix A.1.1, "Quality Filtering". The paper does not list its bullets: these
        are ours, the hyphen among them.
    """

    min_words: int = 50
    """As `words_of` counts them."""
    max_words: int = 100_000
    min_word_length: float = 3
    """Bounds on the mean length of words, where most stand between spaces."""
    max_word_length: float = 10
    max_symbols: float = 0.1
    """Hash marks, or ellipses, for each word."""
    max_bullet_lines: float = 0.9
    """Share of lines that begin with a bullet."""
    max_ellipsis_lines: float = 0.3
    """Share of lines that end with an ellipsis."""
    min_alphabetic: float = 0.8
    """Share of words with at least one letter."""
    min_stop_words: int = 2
    """Different words of `STOP_WORDS`."""
    name: str = "Gopher quality"

    def reason(self, document: Document) -> str | None:
        """Say which rule a document breaks first.

        Example:
            >>> GopherQuality().reason(Document(text="Too short.", source="x"))
            'few words'
        """
        text = document.text
        words = words_of(text)
        if len(words) < max(1, self.min_words):
            return "few words"
        if len(words) > self.max_words:
            return "many words"
        spaced = words if text.isascii() else [word for word in words if not is_unspaced(word)]
        if 2 * len(spaced) > len(words):
            mean = len("".join(spaced)) / len(spaced)
            if mean < self.min_word_length:
                return "short words"
            if mean > self.max_word_length:
                return "long words"
        if text.count("#") > self.max_symbols * len(words):
            return "hash marks"
        if text.count("...") + text.count("…") > self.max_symbols * len(words):
            return "ellipses"
        reason = self._reason_of_lines(text)
        if reason is None and _alphabetic(words) < self.min_alphabetic * len(words):
            return "few alphabetic words"
        if reason is None and _n_stop_words(text, self.min_stop_words) < self.min_stop_words:
            return "few stop words"
        return reason

    def _reason_of_lines(self, text: str) -> str | None:
        lines = [line for line in map(str.strip, with_line_feeds(text).split("\n")) if line]
        if sum(line.startswith(BULLETS) for line in lines) > self.max_bullet_lines * len(lines):
            return "bullet lines"
        if sum(line.endswith(_ELLIPSES) for line in lines) > self.max_ellipsis_lines * len(lines):
            return "ellipsis lines"
        return None


_STOP = re.compile(rf"\b(?:{'|'.join(STOP_WORDS)})\b", re.IGNORECASE)


def _alphabetic(words: list[str]) -> int:
    # Most words are letters alone, which one call tells; the loop over letters is for the others.
    return sum(word.isalpha() or any(map(str.isalpha, word)) for word in words)


def _n_stop_words(text: str, enough: int) -> int:
    found: set[str] = set()
    for match in between_letters(_STOP, text).finditer(text):
        if len(found) >= enough:
            break
        found.add(match[0].lower())
    return len(found)
