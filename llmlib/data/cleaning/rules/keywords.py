"""Marks that a line was made by a machine or aimed at a person: HTML remains, boilerplate, insults.

Word lists know no context, and the survey's warning applies to them first: the patterns here try
to look at the words around a key word (a cookie is boilerplate beside a website, not in a recipe),
and the labelled items of `data/cleaning/keywords.csv` say how far that goes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import between_letters, with_line_feeds

_TAGS = (
    "a|abbr|article|b|blockquote|body|br|button|code|div|em|font|footer|form|h[1-6]|head|header|hr|"
    "html|i|iframe|img|input|li|link|meta|nav|ol|option|p|pre|script|section|select|small|span|"
    "strong|style|sub|sup|table|tbody|td|th|thead|title|tr|u|ul|video"
)
# A value without quotes stops before the next tag, which is looked at by itself: a thousand tags
# that never close would each read all that follow.
_VALUE = rf"(?:\"[^\"]*\"|'[^']*'|(?:[^\s<>\"']++|<(?!/?(?:{_TAGS})\s))++)"
_ENTITIES = "nbsp|amp|lt|gt|quot|copy|reg|euro|pound|hellip|[lr][ds]quo|[mn]dash|[lr]aquo|bull"

HTML = re.compile(
    rf"</?(?:{_TAGS})(?:\s+[a-z-]+(?:\s*=\s*{_VALUE})?)*\s*/?>|<!--|<!doctype\b|"
    rf"&(?:{_ENTITIES}|#\d{{2,5}}|#x[0-9a-f]{{2,5}});|"
    r"\b(?:href|src|class|style|onclick)=[\"']",
    re.IGNORECASE,
)
"""A tag that HTML knows, a comment, an entity, or an attribute that lost its tag."""

# What lies between two words of a phrase is bounded: a search to the line's end from each of a
# thousand beginnings would read the line a thousand times.
_GAP = r".{0,200}"
_SITE = r"(?:web)?sites?|browser|brows(?:e|ing)|consent|preferences|settings|policy"
_PHRASES = (
    rf"\bcookies\b.{{0,60}}\b(?:{_SITE})\b|\b(?:{_SITE})\b.{{0,60}}\bcookies\b|"
    rf"\bcookie (?:{_SITE}|notice)\b|\baccept (?:all )?cookies\b|"
    r"\ball rights reserved\b|(?:©|\(c\)|\bcopyright)\s+(?:19|20)\d\d\b|"
    r"\bprivacy (?:policy|notice|settings)\b|\bterms (?:of (?:use|service)\b|and conditions\b)|"
    r"\bshare (?:this|on|via) (?:article|page|post|story|facebook|twitter|linkedin|whatsapp)\b|"
    rf"\bfollow us on \w|\b(?:subscribe|sign up) (?:now|to|for)\b{_GAP}\b"
    r"(?:newsletter|channel|updates)|"
    r"\b(?:skip|jump) to (?:main |the )?content\b|\bunsubscribe\b|\bback to top\b|"
    rf"\b(?:log|sign) ?in (?:to|or)\b{_GAP}\b(?:continue|comment|reply|register|account)\b|"
    r"\bclick here\b|\bpowered by [a-z][\w ]{0,60}[\d.]{1,20}[^\w\n]*+$|"
    r"\benable javascript\b|\bjavascript is (?:disabled|required|turned off)\b|"
    r"\badd to (?:cart|basket|wish ?list)\b|\bfree shipping on\b|"
    r"\byour e-?mail address\b|\bforgot your password\?"
)
_LINES = (
    r"^[ \t]*(?:(?:share|tweet|pin it|print|like)(?: this| on)?(?: page| article| post)?\W*$|"
    r"(?:read|show|load|see|learn) more\W*$|page \d+ of \d+\W*$|"
    r"(?:previous|next|related|recent|popular) (?:posts?|articles?|pages?)\b(?:\W*$|:)|"
    r"\d+ (?:comments?|shares?|likes|views)\W*$|leave a (?:comment|reply)\b|"
    r"advertisements?\W*$|you may also like\W*$|"
    r"\w[\w ]{0,14}(?: [|»·>/] \w[\w ]{0,14}){2,}[ \t]*$)"
)
BOILERPLATE = re.compile(f"{_PHRASES}|{_LINES}", re.IGNORECASE | re.MULTILINE)
"""What pages say about themselves: cookies, sharing, navigation, accounts, shops, comments."""

_INSULTS = (
    "ass|arse|bastards?|crap|crappy|damn|dumbass|idiots?|jackass(?:es)?|morons?|piss(?:ed)?|"
    "pricks?|scumbags?|smartass|twits?"
)
OFFENSIVE = re.compile(
    rf"\b(?<!-)(?:{_INSULTS})\b"
    r"(?! (?:the|a|your) (?:potato|skin|dough|finger|balloon|pastry|surface))",
    re.IGNORECASE,
)
"""A short list of mild insults and curses, as whole words.

Real filters use lists of hundreds of words, whose effects Dodge et al. (2021), Documenting Large
Webtext Corpora, section 5, measured on C4: pages about minorities go first. The shape of the step
is the same.
"""

PATTERNS = {"html": HTML, "boilerplate": BOILERPLATE, "offensive": OFFENSIVE}
KEYWORD_KINDS = tuple(PATTERNS)

# Looking for a fixed string is a hundred times faster than the patterns: a text without any of
# these cannot match, apart from the boilerplate that is told by its place on a line.
_HINTS = {
    "html": ("<", "&", "='", '="'),
    "boilerplate": [
        "cookie",
        "rights reserved",
        "©",
        "(c)",
        "copyright",
        "privacy ",
        "terms ",
        "share ",
        "follow us",
        "subscribe",
        "sign",
        "skip to",
        "jump to",
        "back to top",
        "log in",
        "login",
        "click here",
        "powered by",
        "javascript",
        "add to ",
        "shipping",
        "mail address",
        "password",
    ],
    "offensive": [
        "ass",
        "arse",
        "bastard",
        "crap",
        "damn",
        "idiot",
        "moron",
        "piss",
        "prick",
        "scumbag",
        "twit",
    ],
}
_OWN_LINE = re.compile(_LINES, re.IGNORECASE | re.MULTILINE)


def _may_match(text: str, lower: str, kind: str) -> bool:
    if any(hint in lower for hint in _HINTS[kind]):
        return True
    return kind == "boilerplate" and _OWN_LINE.search(text) is not None


@dataclass(frozen=True)
class Hit:
    """A place where a pattern matched."""

    kind: str
    start: int
    end: int
    """One past the last character."""


def keyword_hits(text: str, kinds: Sequence[str] = KEYWORD_KINDS) -> Iterator[Hit]:
    """Find every HTML remain, boilerplate phrase and offensive word.

    Yields:
        Hits, kind by kind, in the order of the text.

    Example:
        >>> [hit.kind for hit in keyword_hits("<b>Accept cookies</b>")]
        ['html', 'html', 'boilerplate']
    """
    for kind in kinds:
        for match in between_letters(PATTERNS[kind], text).finditer(text):
            yield Hit(kind, match.start(), match.end())


@dataclass(frozen=True, kw_only=True)
class KeywordFilter:
    """Drops documents in which too many lines hold a keyword."""

    max_lines: tuple[tuple[str, float], ...] = (
        ("html", 0.3),
        ("boilerplate", 0.3),
        ("offensive", 0.1),
    )
    """For each kind, the largest share of lines with a hit."""
    name: str = "keywords"

    def reason(self, document: Document) -> str | None:
        """Say which kind of keyword a document has too much of.

        Example:
            >>> KeywordFilter().reason(Document(text="Skip to content", source="x"))
            'boilerplate'
        """
        text = with_line_feeds(document.text)
        lower = text.lower()
        lines: list[str] | None = None
        for kind, most in self.max_lines:
            pattern = between_letters(PATTERNS[kind], text)
            if not _may_match(text, lower, kind) or pattern.search(text) is None:
                continue  # most documents: no splitting
            lines = lines or [line for line in text.split("\n") if line.strip()]
            if sum(pattern.search(line) is not None for line in lines) > most * len(lines):
                return kind
        return None


@dataclass(frozen=True, kw_only=True)
class WithoutKeywordLines:
    """Takes the lines with a keyword out and keeps the rest of the document."""

    kinds: tuple[str, ...] = ("html", "boilerplate")
    name: str = "keyword lines"

    def apply(self, document: Document) -> Document:
        r"""Return the document without such lines.

        Example:
            >>> page = Document(text="Skip to content\nThe bridge is old.", source="x")
            >>> WithoutKeywordLines().apply(page).text
            'The bridge is old.'
        """
        text = with_line_feeds(document.text)
        patterns = [between_letters(PATTERNS[kind], text) for kind in self.kinds]
        lower = text.lower()
        if not any(_may_match(text, lower, kind) for kind in self.kinds):
            return document
        lines = text.split("\n")
        good = [line for line in lines if not any(p.search(line) for p in patterns)]
        return document if len(good) == len(lines) else document.with_text("\n".join(good))
