"""From gathered text to text worth training on: one pass over the documents, every loss accounted.

Two steps: documents equal up to white space are kept once, and documents that are hardly prose are
dropped by rules that look at one document alone. Each dropped document is returned with its reason,
and a funnel says what is left after each step.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmlib.data.corpora.document import Document, corpus_bytes

DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Bounds outside which a document is not worth training on.

    The defaults suit documentation and prose: of the fixed corpus they drop about a twentieth of
    the documents and less than a hundredth of the bytes. For source code, lower `min_letters`.

    Attributes:
        min_bytes: Fewest UTF-8 bytes; shorter texts are labels, not sentences.
        min_letters: Smallest share of letters among the characters that are not white space;
            tables, formulas and rulers lie below.
        max_example_lines: Largest share of lines that are input to an interpreter (`>>>`, `...`).
        max_repeated_lines: Largest share of lines that repeat an earlier line of the document.
        max_line_bytes: Longest line; data written as text lies above.
    """

    min_bytes: int = 32
    min_letters: float = 0.45
    max_example_lines: float = 0.7
    max_repeated_lines: float = 0.4
    max_line_bytes: int = 2000

    def reason(self, text: str) -> str | None:
        """Say why a text should be dropped.

        Args:
            text: The text.

        Returns:
            The name of the first rule it breaks, in words; None if it breaks none.

        Example:
            >>> QualityRules().reason("=" * 50)
            'few letters'
            >>> QualityRules().reason("Return the number of nodes in the graph.") is None
            True
        """
        if len(text.encode()) < self.min_bytes:
            return "short"
        visible = "".join(text.split())
        if sum(map(str.isalpha, visible)) < self.min_letters * len(visible) or not visible:
            return "few letters"
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        examples = sum(line.startswith((">>>", "...")) for line in lines)
        if examples > self.max_example_lines * len(lines):
            return "mostly examples"
        if len(lines) - len(set(lines)) > self.max_repeated_lines * len(lines):
            return "repeated lines"
        if max(len(line.encode()) for line in lines) > self.max_line_bytes:
            return "long lines"
        return None


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A document that was taken out, and why.

    Attributes:
        document: The document.
        reason: The rule it broke, in words.
    """

    document: Document
    reason: str


@dataclass(frozen=True, kw_only=True)
class FunnelStep:
    """What is left of a corpus after a step.

    Attributes:
        name: What the step did.
        documents: Documents left.
        bytes: UTF-8 bytes left.
    """

    name: str
    documents: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CleanCorpus:
    """A corpus after cleaning, with the account of it.

    Attributes:
        documents: What is left, in the order of gathering.
        dropped: What was taken out.
        funnel: Sizes before the first step and after each.
    """

    documents: list[Document]
    dropped: list[Dropped]
    funnel: list[FunnelStep]

    def reasons(self) -> dict[str, int]:
        """Count the dropped documents by reason.

        Returns:
            Reason and number, commonest first.
        """
        return dict(Counter(dropped.reason for dropped in self.dropped).most_common())


def spacing_digest(text: str) -> bytes:
    """Hash a text so that texts equal up to white space have equal hashes.

    Args:
        text: The text; lone surrogates are hashed as they are.

    Returns:
        `DIGEST_BYTES` bytes.

    Example:
        >>> spacing_digest("Add  two.") == spacing_digest(" Add two. ")
        True
    """
    normal = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(normal, digest_size=DIGEST_BYTES).digest()


def deduplicate(documents: Iterable[Document]) -> tuple[list[Document], list[Dropped]]:
    """Keep the first of documents that are equal up to white space.

    Args:
        documents: The corpus.

    Returns:
        The documents kept, in order, and those dropped.

    Example:
        >>> a, b = (Document(text=text, source="x") for text in ("Add  two.", "Add two."))
        >>> kept, dropped = deduplicate([a, b])
        >>> kept == [a], dropped[0].reason
        (True, 'duplicate')
    """
    seen: set[bytes] = set()
    kept, dropped = [], []
    for document in documents:
        key = spacing_digest(document.text)
        if key in seen:
            dropped.append(Dropped(document=document, reason="duplicate"))
        else:
            seen.add(key)
            kept.append(document)
    return kept, dropped


def clean(documents: Sequence[Document], rules: QualityRules | None = None) -> CleanCorpus:
    """Deduplicate a corpus and drop what breaks a quality rule.

    Args:
        documents: The corpus as gathered.
        rules: The bounds; by default those of `QualityRules()`.

    Returns:
        What is left, what was dropped and why, and the sizes at each step.

    Raises:
        ValueError: If nothing is left.
    """
    rules = rules or QualityRules()
    funnel = [_step("gathered", documents)]
    unique, dropped = deduplicate(documents)
    funnel.append(_step("deduplicated", unique))
    kept = []
    for document in unique:
        reason = rules.reason(document.text)
        if reason is None:
            kept.append(document)
        else:
            dropped.append(Dropped(document=document, reason=reason))
    funnel.append(_step("filtered", kept))
    corpus = CleanCorpus(documents=kept, dropped=dropped, funnel=funnel)
    if not kept:
        raise ValueError(
            f"cleaning left nothing of {len(documents)} documents: {corpus.reasons()}. Loosen "
            "QualityRules or look at the source."
        )
    return corpus


def _step(name: str, documents: Sequence[Document]) -> FunnelStep:
    return FunnelStep(name=name, documents=len(documents), bytes=corpus_bytes(documents))
