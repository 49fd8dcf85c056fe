"""Exact deduplication: documents that are equal once spelling variants are taken away.

Two copies of a text rarely agree byte for byte: one was wrapped at another column, one decomposes
its accents, one shouts. A normalization says which of these differences do not count.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from llmlib.data.cleaning.rules.quality_rules import Dropped
from llmlib.data.corpora.document import Document

# Characters that are drawn as nothing: soft hyphen, zero-width space and joiners, word joiner,
# byte-order mark. Copying out of web pages and PDFs leaves them in texts.
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """Which differences between two texts do not count.

    Attributes:
        case: Ignore case, by Unicode's case folding ("STRASSE" and "Straße" agree).
        white_space: Ignore how much white space separates words, and of which kind.
        form: Unicode normalization form. "NFC" identifies the two spellings of "é". "NFKC" also
            identifies full-width letters with plain ones, at a price: "10²" becomes "102". None
            compares code points.
        invisible: Ignore soft hyphens, zero-width characters and byte-order marks. Some scripts
            (Persian, Hindi) distinguish words by joiners; turn it off for them.
    """

    case: bool = True
    white_space: bool = True
    form: Literal["NFC", "NFKC"] | None = "NFC"
    invisible: bool = True


def normalize_for_matching(text: str, rules: Normalization | None = None) -> str:
    r"""Bring the spellings of a text that should match to one form, for comparing only.

    Args:
        text: The text.
        rules: What to ignore; by default case, white space, canonical form and invisible
            characters.

    Returns:
        The form under which two texts are compared. Applying the function again changes nothing.

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
    """Hash the normalized text, so that a set of texts seen costs 16 bytes a text.

    Args:
        text: The text. Lone surrogates are allowed.
        rules: What to ignore.

    Returns:
        128 bits of BLAKE2b: among 10^12 texts, two different ones share a digest with probability
        below 10^-14.

    Example:
        >>> matching_digest("Add two.") == matching_digest("add  two.")
        True
    """
    normalized = normalize_for_matching(text, rules).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(normalized, digest_size=16).digest()


def deduplicate_exact(
    documents: Iterable[Document], rules: Normalization | None = None
) -> tuple[list[Document], list[Dropped]]:
    r"""Keep the first of the documents that agree after normalization.

    The documents themselves are not changed. Beside what is returned, memory holds a digest and
    the source of each document kept.

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
    first: dict[bytes, str] = {}
    kept, dropped = [], []
    for document in documents:
        digest = matching_digest(document.text, rules)
        if digest in first:
            dropped.append(Dropped(document=document, reason=f"duplicate of {first[digest]}"))
        else:
            first[digest] = document.source
            kept.append(document)
    return kept, dropped
