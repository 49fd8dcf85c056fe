"""A document that was taken out of a corpus, and why."""

from collections.abc import Iterable
from dataclasses import dataclass

from llmlib.data.corpora.document import Document


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A document that was taken out, and the rule it broke, in words."""

    document: Document
    reason: str


def keep_or_drop(
    judged: Iterable[tuple[Document, str | None]],
) -> tuple[list[Document], list[Dropped]]:
    """Collect documents by their verdicts: the reason to drop each, or None to keep it.

    Returns:
        The documents kept and those dropped, both in order.

    Example:
        >>> corpus = [Document(text=text, source="x") for text in ("Hi.", "A sentence.")]
        >>> kept, dropped = keep_or_drop(zip(corpus, ("short", None)))
        >>> kept[0].text, dropped[0].reason
        ('A sentence.', 'short')
    """
    kept, dropped = [], []
    for document, reason in judged:
        if reason is None:
            kept.append(document)
        else:
            dropped.append(Dropped(document=document, reason=reason))
    return kept, dropped
