"""Exact deduplication: documents that are equal once spelling variants are taken away.

Two copies of a text rarely agree byte for byte: one was wrapped at another column, one decomposes
its accents, one shouts. A normalization says which of these differences do not count.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64, Shaped

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped, keep_or_drop

DIGEST_BYTES = 16

# Characters that are drawn as nothing: soft hyphen, zero-width space and joiners, word joiner,
# byte-order mark. Copying out of web pages and PDFs leaves them in texts.
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Which differences between two texts do not count."""

    case: bool = True
    """Ignore case, by Unicode's case folding ("STRASSE" and "Straße" agree)."""
    white_space: bool = True
    """Ignore how much white space separates words, and of which kind."""
    form: Literal["NFC", "NFKC"] | None = "NFC"
    """Unicode normalization form. "NFC" identifies the two spellings of "é". "NFKC" also
    identifies full-width letters with plain ones, at a price: "10²" becomes "102". None compares
    code points."""
    invisible: bool = True
    """Ignore soft hyphens, zero-width characters and byte-order marks. Some scripts (Persian,
    Hindi) distinguish words by joiners; turn it off for them."""


SPACING_ONLY = Normalization(case=False, form=None, invisible=False)
"""White space alone does not count: what cleaning takes for a copy."""


def normalize_for_matching(text: str, rules: Normalization | None = None) -> str:
    r"""Bring the spellings of a text that should match to one form, for comparing only.

    Applying the function again changes nothing.

    Example:
        >>> normalize_for_matching("Cafe\u0301\n  NOIR ") == "café noir"
        True
        >>> nfkc = Normalization(form="NFKC")
        >>> normalize_for_matching("Ｆｉｌｅ 10²", nfkc)
        'file 102'

    References:
        Unicode Standard Annex 15 (normalization forms); Unicode Standard, section 3.13 (default
        caseless matching: folding, then normalizing, until nothing changes).
    """
    rules = rules or Normalization()
    if rules.white_space and text.isascii():  # the common case, in two passes of C
        text = " ".join(text.split())
        return text.lower() if rules.case else text
    previous = None
    # One step can undo another: a folded long s with a dot composes with a dot below.
    while text != previous:
        previous = text
        if rules.invisible:
            text = text.translate(_INVISIBLE)
        if rules.form:
            text = unicodedata.normalize(rules.form, text)
        if rules.case:
            text = text.casefold()
        if rules.white_space:
            text = " ".join(text.split())
    return text


def matching_digest(text: str, rules: Normalization | None = None) -> bytes:
    """Hash the normalized text, which may hold lone surrogates.

    Returns:
        `DIGEST_BYTES` bytes of BLAKE2b: among 10^12 texts, two different ones share a digest with
        probability below 10^-14.

    Example:
        >>> matching_digest("Add two.") == matching_digest("add  two.")
        True
    """
    return text_digest(normalize_for_matching(text, rules))


def text_digest(text: str, n_bytes: int = DIGEST_BYTES) -> bytes:
    """Hash a text as it is, by BLAKE2b; lone surrogates are allowed."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=n_bytes).digest()


class ExactDuplicates:
    """Drops documents equal, but for what the rules ignore, to an earlier one of the run.

    Memory: 16 bytes of hash, and Python's dictionary around it, for each different document.

    Args:
        name_first: Give the source of the first copy in the reason. Each source then stays in
            memory, and a report that counts reasons has one a source.

    Example:
        >>> step = ExactDuplicates()
        >>> [step.reason(Document(text=text, source="x")) for text in ("a b", "a  b")]
        [None, 'duplicate']
    """

    def __init__(
        self,
        name: str = "exact duplicates",
        rules: Normalization = SPACING_ONLY,
        *,
        name_first: bool = False,
    ) -> None:
        self.rules = rules
        self.name = name
        self.name_first = name_first
        self._reasons: dict[bytes, str] = {}

    def start(self) -> None:
        """Forget the documents of earlier runs."""
        self._reasons = {}

    def reason(self, document: Document) -> str | None:
        """Say `duplicate` of a document that came before."""
        digest = matching_digest(document.text, self.rules)
        if digest in self._reasons:
            return self._reasons[digest]
        reason = f"duplicate of {document.source}" if self.name_first else "duplicate"
        self._reasons[digest] = reason
        return None


def deduplicate_exact(
    documents: Iterable[Document], rules: Normalization | None = None
) -> tuple[list[Document], list[Dropped]]:
    r"""Keep the first of the documents that agree after normalization, as it came.

    Args:
        documents: The corpus, in order; it is read once.
        rules: What to ignore; by default case, white space, canonical form and invisible
            characters.

    Returns:
        The documents kept, in order, and those dropped, with the source of the first copy in the
        reason.

    Example:
        >>> texts = ("Add two.", "ADD\ttwo.", "Add 2.")
        >>> corpus = [Document(text=text, source=f"d{i}") for i, text in enumerate(texts)]
        >>> kept, dropped = deduplicate_exact(corpus)
        >>> [document.source for document in kept], dropped[0].reason
        (['d0', 'd2'], 'duplicate of d0')
    """
    step = ExactDuplicates(rules=rules or Normalization(), name_first=True)
    return keep_or_drop((document, step.reason(document)) for document in documents)


def first_equal(keys: Shaped[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """For each key the index of the first that equals it, its own if none came before.

    Example:
        >>> first_equal(np.array([7, 3, 7, 3])).tolist()
        [0, 1, 0, 1]
    """
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]
