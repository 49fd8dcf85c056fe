"""Ready-made steps, and the cleaning of two steps that needs no set-up."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmlib.data.cleaning.pipeline import Pipeline, TextFilter
from llmlib.data.cleaning.report import FunnelStep
from llmlib.data.cleaning.rules.quality_rules import QualityRules
from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped
from llmlib.data.corpora.units import with_line_feeds
from llmlib.data.deduplication.exact import ExactDuplicates

# C0 and C1 controls without tab, line feed, form feed, carriage return and next line.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")
_UNREADABLE = re.compile(r"[\ufffd\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Readable:
    """Drops what is no text at all: put it first."""

    max_chars: int = 2_000_000
    """Largest document; whole files of data lie above."""
    max_line_chars: int = 100_000
    """Longest line, in characters."""
    max_control: float = 0.005
    """Largest share of control characters; a zip file read as Latin-1 has a tenth."""
    max_unreadable: float = 0.005
    """Largest share of replacement characters, which a decoding with the wrong character set
    leaves behind. A lone surrogate cannot be written as UTF-8, so a single one is too many."""
    name: str = "readable"

    def reason(self, document: Document) -> str | None:
        """Say `empty`, `gigantic`, `binary`, `wrong encoding` or `gigantic line`.

        Example:
            >>> step = Readable()
            >>> step.reason(Document(text="PK" + chr(3) + chr(4), source="a.zip"))
            'binary'
        """
        text = document.text
        if not text or text.isspace():
            return "empty"
        if len(text) > self.max_chars:
            return "gigantic"
        if "\0" in text or len(_CONTROL.findall(text)) > self.max_control * len(text):
            return "binary"
        if not text.isascii():
            odd = _UNREADABLE.findall(text)
            if len(odd) > self.max_unreadable * len(text) or any(c != "\ufffd" for c in odd):
                return "wrong encoding"
        if len(text) > self.max_line_chars:
            longest = max(map(len, with_line_feeds(text).split("\n")))
            if longest > self.max_line_chars:
                return "gigantic line"
        return None


def quality_step(rules: QualityRules | None = None, name: str = "hardly prose") -> TextFilter:
    """Make a step of quality rules, by default those of `QualityRules()`."""
    return TextFilter(name, (rules or QualityRules()).reason)


@dataclass(frozen=True, kw_only=True)
class CleanCorpus:
    """A corpus after cleaning, with the account of it."""

    documents: list[Document]
    """What is left, in the order of gathering."""
    dropped: list[Dropped]
    funnel: list[FunnelStep]
    """Sizes before the first step and after each."""

    def reasons(self) -> dict[str, int]:
        """Count the dropped documents by reason, commonest first."""
        return dict(Counter(dropped.reason for dropped in self.dropped).most_common())


def clean(documents: Sequence[Document], rules: QualityRules | None = None) -> CleanCorpus:
    """Keep one of equal documents, and drop what breaks a quality rule.

    Raises:
        ValueError: If nothing is left.
    """
    dropped: list[Dropped] = []
    pipeline = Pipeline(
        [ExactDuplicates("deduplicated"), quality_step(rules, "filtered")],
        on_error="raise",
        on_drop=lambda _, document: dropped.append(document),
    )
    kept = [*pipeline.run(documents)]
    gathered, *steps = pipeline.report().funnel()
    funnel = [replace(gathered, name="gathered"), *steps]
    corpus = CleanCorpus(documents=kept, dropped=dropped, funnel=funnel)
    if not kept:
        raise ValueError(
            f"cleaning left nothing of {len(documents)} documents: {corpus.reasons()}. Loosen "
            "QualityRules or look at the source."
        )
    return corpus
