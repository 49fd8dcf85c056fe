"""The rules that turned a month of crawled pages into C4: lines that read as sentences are kept.

A step for pages that are no prose at all, one that keeps the good lines, and one that asks whether
enough is left, in this order.
"""

import itertools
import re
from dataclasses import dataclass

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import with_line_feeds, words_of

_CITATION = re.compile(r"\[(?:\d+|edit|citation needed)\]", re.IGNORECASE)
# Begun at the first of several marks and never given back: a row of dots is read once.
_SENTENCE = re.compile(r"(?<![.!?])[.!?]++[\"'”’)\]]*+(?=\s|$)|[。！？]")
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


@dataclass(frozen=True, kw_only=True)
class C4Pages:
    """Drops pages of placeholder text or code.

    References:
        Raffel et al. (2020), Exploring the Limits of Transfer Learning with a Unified
        Text-to-Text Transformer, section 2.2.
    """

    name: str = "C4 pages"

    def reason(self, document: Document) -> str | None:
        """Say `lorem ipsum` or `curly bracket` of a page that still has all its lines.

        Example:
            >>> C4Pages().reason(Document(text="if (x) { return; }", source="x"))
            'curly bracket'
        """
        if "lorem ipsum" in document.text.lower():
            return "lorem ipsum"
        return "curly bracket" if "{" in document.text else None


@dataclass(frozen=True, kw_only=True)
class C4Lines:
    """Keeps the lines that end like a sentence and are long enough, without citation marks.

    References:
        Raffel et al. (2020), section 2.2; the lists of the released code agree but for its
        exclusion of ellipses, which the paper does not mention.
    """

    min_words: int = 5
    """As `words_of` counts them."""
    end_marks: tuple[str, ...] = (".", "!", "?", '"', "”")
    """Those of English, as C4 is English. An ellipsis never counts as an end."""
    name: str = "C4 lines"

    def apply(self, document: Document) -> Document:
        r"""Return the page with its good lines alone.

        Example:
            >>> page = Document(text="Home | About\nA line of five words [1].", source="x")
            >>> C4Lines().apply(page).text
            'A line of five words .'
        """
        lines = (self.line(line) for line in with_line_feeds(document.text).split("\n"))
        return document.with_text("\n".join(line for line in lines if line is not None))

    def line(self, line: str) -> str | None:
        """Return a line without outer white space and citation marks, or None if it goes."""
        line = _CITATION.sub("", line).strip()
        if not line.endswith(self.end_marks) or line.endswith(("...", "…")):
            return None
        if len(words_of(line)) < self.min_words:
            return None
        lower = line.lower()
        if "javascript" in lower or any(policy in lower for policy in POLICIES):
            return None
        return line


@dataclass(frozen=True, kw_only=True)
class EnoughSentences:
    """Drops pages with too few sentences; put it behind `C4Lines`.

    References:
        Raffel et al. (2020), section 2.2: three sentences (five in the first version).
    """

    min_sentences: int = 3
    """Fewest sentences. A sentence ends at a mark before white space; the original asked a trained
    splitter, which also knows abbreviations."""
    name: str = "C4 sentences"

    def reason(self, document: Document) -> str | None:
        """Say `few sentences` if too little is left.

        Example:
            >>> EnoughSentences().reason(Document(text="One. Two? 3.5 is no end", source="x"))
            'few sentences'
        """
        ends = itertools.islice(_SENTENCE.finditer(document.text), self.min_sentences)
        return None if sum(1 for _ in ends) >= self.min_sentences else "few sentences"


def c4_steps() -> list[C4Pages | C4Lines | EnoughSentences]:
    """Return C4's rules in order, without its list of offensive words: see `keywords.py`."""
    return [C4Pages(), C4Lines(), EnoughSentences()]
