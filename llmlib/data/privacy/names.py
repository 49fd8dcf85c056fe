"""Names of people: by a list of given and family names, and by the words round them.

No rule knows whether "Will" is a person. A given name that is also a word, a month or a place
counts only with a family name of the list or a telling context, and nothing counts before words
such as "Street" or "University". What the list does not hold is found in context only.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import regex

from llmlib.core.resources import resource
from llmlib.data.privacy.folding import TOUCHING
from llmlib.data.privacy.spans import Span

_CAPITALIZED = r"\p{Lu}\p{Ll}+(?:[-'’]\p{Lu}?\p{Ll}+)*(?:\p{Lu}\p{Ll}+)?"  # also McDonald
_TOKEN = rf"(?:{_CAPITALIZED}|O['’]{_CAPITALIZED}|\p{{Lu}}\.(?:-?\p{{Lu}}\.)*)"
_PARTICLE = r"(?:(?:de|del|della|da|dos|van|von|der|den|di|la|le|bin|al|el|ter|ibn) ){1,2}"
_SEQUENCE = regex.compile(
    rf"(?<![^\W{TOUCHING}])(?<![.@/_-]){_TOKEN}(?:[ ](?:{_PARTICLE})?{_TOKEN}){{0,5}}"
    rf"(?![^\W{TOUCHING}]|[_(=])"
)
_WORD = regex.compile(rf"{_TOKEN}")
_TITLE = regex.compile(
    r"(?:Mrs?|Ms|Mx|Dr|Prof|Professor|Sir|Dame|Herr|Frau|Mme|Mlle|Monsieur|Madame|Señora?|Sra?"
    r"|Signora?|Doctor)\.?"
)
_TITLE_BEFORE = regex.compile(rf"(?<!\w){_TITLE.pattern} $")
_CUE = regex.compile(
    r"(?<!\w)(?:my name is|(?:i am|i'm|this is) called|is named|was named after|signed(?: by)?:?"
    r"|sincerely,|regards,|yours,|author:|written by|reported by|contact:?|dear|patient:?"
    r"|customer:?|employee:?|name:|attn:?|c/o|ask for|speak to|spoke to|met with"
    r"|ich heiße|je m'appelle|me llamo|mi chiamo)\s+$",
    regex.IGNORECASE,
)
_OPENINGS = {"Dear", "Contact", "Patient", "Customer", "Employee"}
_CHINESE = regex.compile(
    r"(?:我叫|我是|姓名[::]\s*|联系人[::]\s*)(\p{Han}{2,4})(?=[,。;、!\s,.]|$)"
    r"|(\p{Han}{1,3})(?:先生|女士|老师|医生)"
)


@dataclass(frozen=True, kw_only=True)
class NameLists:
    """Words by which names are told."""

    given: frozenset[str]
    family: frozenset[str]
    ambiguous: frozenset[str]
    """Given names that are also words, months or places."""
    not_names: frozenset[str]
    """Capitalized words that a context does not make a name."""
    places: frozenset[str]
    """Words after which the capitalized words before them are no person."""
    chinese: frozenset[str]
    """First characters of Chinese names."""


@cache
def name_lists() -> NameLists:
    """Read the lists that come with the book."""
    lists = json.loads(resource("privacy/names.json").read_text(encoding="utf-8"))
    return NameLists(**{name: frozenset(words.split()) for name, words in lists.items()})


def find_names(text: str) -> Iterator[Span]:
    """Find names of people, without titles.

    Example:
        >>> [span.text for span in find_names("Dr. Quux met Maria Silva in Florence Street in May")]
        ['Quux', 'Maria Silva']
    """
    for sequence in _SEQUENCE.finditer(text):
        words = [*_WORD.finditer(sequence[0])]
        found = _name_in(text, sequence.start(), words)
        if found:
            start = sequence.start() + words[found[0]].start()
            stop = sequence.start() + words[found[1] - 1].end()
            yield Span(start, stop, "name", text[start:stop])
    lists = name_lists()
    for match in _CHINESE.finditer(text):
        group = 1 if match[1] else 2
        start, stop = match.span(group)
        if group == 2:  # the name is what begins with a family name nearest to the title
            start = max((i for i in range(start, stop) if text[i] in lists.chinese), default=stop)
        if start < stop and text[start] in lists.chinese:
            yield Span(start, stop, "name", text[start:stop])


def _name_in(text: str, start: int, matches: list) -> tuple[int, int] | None:
    """First word of the name in a run of capitalized words, and the one after its last."""
    lists = name_lists()
    words = [match[0] for match in matches]
    first = 0
    while first < len(words) and words[first] in _OPENINGS:
        first += 1
    opening = first
    while first < len(words) and _TITLE.fullmatch(words[first]):
        first += 1
    words_end = len(words)
    while words_end > first and _shortened(words[words_end - 1]) in lists.not_names:
        words_end -= 1
    if first == words_end or lists.places & {*map(_shortened, words[first:])}:
        return None
    begin = start + matches[first].start()
    before = text[max(0, begin - 24) : begin]
    told = first > opening or _TITLE_BEFORE.search(before)
    if told or (_CUE.search(before) and words_end - first <= 4):
        return (first, words_end) if _shortened(words[first]) not in lists.not_names else None
    for place in range(first, words_end - 1):
        if _is_name(words[place], _shortened(words[place + 1])):
            return place, words_end
    return None


def _is_name(word: str, following: str) -> bool:
    """Whether a word begins a name: given, or an initial before a family name."""
    lists = name_lists()
    if word.endswith(".") and len(word) < 6:
        return following in lists.family
    if word not in lists.given or following in lists.not_names:
        return False
    return word not in lists.ambiguous or following in lists.family


def _shortened(word: str) -> str:
    return word.removesuffix("'s").removesuffix("’s")
