"""A toxicity filter: a lexicon that asks whom a word is aimed at.

The same verb threatens a person and stops a process, and an insult may be quoted, disowned or said
of oneself. So a hit needs an aim: a person as its object, or as its subject. `ToxicityFilter` takes
any judge of sentences; the labelled sentences of `data/cleaning/toxicity.csv` compare this lexicon
with bare words and with the linear classifier.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import between_letters, with_line_feeds

_INSULT = (
    r"(?:idiots?|morons?|losers?|fools?|scum|trash|garbage|pigs?|clowns?|cowards?|liars?|pathetic|"
    r"stupid|dumb|useless|worthless|disgusting|ugly|brainless|filthy|a? ?waste of space|vermin)"
)
_PERSON = r"(?:you|u|him|her|them|yourself|these people|those people|your (?:family|kids|mother))"
_SUBJECT = (
    r"(?:you(?: all| two| guys| people)?|ur?|(?:he|she|they|these people|those people|"
    r"your (?:kind|family|sister|brother|mother|kids|whole \w+)|people like (?:you|them)))"
)
_BE = r"(?:'?re|are|is|'s|were|look|looks|sound|smell)"
_HARM = r"(?:kill|hurt|beat|punch|strangle|slap|burn|smash|stab|shoot)"

AIMED = re.compile(
    rf"\b{_SUBJECT}\s*(?:{_BE})\b(?! not\b| never\b)(?:\s+\w+){{0,3}}?\s+{_INSULT}\b|"
    rf"\byou(?:r)?(?: \w+)? {_INSULT}\b|\bwhat an? (?:\w+ )?{_INSULT}\b(?! (?:idea|question|day))|"
    rf"\b(?:will|'ll|gonna|going to|want to|should|must|let's|someone)\s+(?:\w+ )?"
    rf"{_HARM} {_PERSON}\b|"
    rf"\b(?:hate|despise|loathe) {_PERSON}\b|\bhope (?:\w+ ){{1,3}}(?:die|dies|suffers?|rots?)\b|"
    r"\b(?:drop dead|go to hell|shut (?:up|your mouth)|get lost|go die|kill yourself)\b|"
    r"\b(?:nobody|no one) (?:likes|wants|would miss) (?:you|them)\b|"
    r"\bgo back (?:to )?where (?:you|they) came from\b|\bdeserves? to (?:die|suffer|rot)\b|"
    rf"^\W*{_INSULT}[.!]*$",
    re.IGNORECASE,
)
"""Insults, threats and wishes of harm with a person as their aim."""

DISOWNED = re.compile(
    r"\b(?:don't|do not|never|stop|rude|wrong|unkind|banned|cruel|bullie[sd]|called|calling|wrote|"
    r"shouted|quote[sd]?|the words?|means?|nobody should)\b.{0,80}",
    re.IGNORECASE,
)
"""Words that report or reject what follows them, as far as a sentence tells."""

# A sentence without one of these strings cannot match; looking for them is much faster.
_HINTS = [
    "idiot",
    "moron",
    "loser",
    "fool",
    "scum",
    "trash",
    "garbage",
    "pig",
    "clown",
    "coward",
    "liar",
    "pathetic",
    "stupid",
    "dumb",
    "useless",
    "worthless",
    "disgust",
    "ugly",
    "brainless",
    "filthy",
    "waste of",
    "vermin",
    "kill",
    "hurt",
    "beat",
    "punch",
    "strangle",
    "slap",
    "burn",
    "smash",
    "stab",
    "shoot",
    "hate",
    "despise",
    "loathe",
    "hope",
    "drop dead",
    "hell",
    "shut",
    "get lost",
    "go die",
    "nobody",
    "no one",
    "where you",
    "where they",
    "deserve",
]
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def is_toxic(sentence: str) -> bool:
    """Say whether a sentence attacks a person itself; attacks that it reports or rejects do not
    count.

    Example:
        >>> is_toxic("I will kill you."), is_toxic("Kill the process first.")
        (True, False)
    """
    lower = sentence.lower()
    if not any(hint in lower for hint in _HINTS):
        return False
    match = between_letters(AIMED, sentence).search(sentence)
    if match is None:
        return False
    before = sentence[: match.start()]
    return between_letters(DISOWNED, before).search(before) is None


@dataclass(frozen=True, kw_only=True)
class ToxicityFilter:
    """Drops documents in which too many sentences attack someone."""

    max_sentences: float = 0.05
    """Largest share of such sentences."""
    judge: Callable[[str], bool] | None = None
    """Says whether a sentence is toxic; by default `is_toxic`."""
    name: str = "toxicity"

    def reason(self, document: Document) -> str | None:
        """Say `toxic` of a document with too many attacks.

        Example:
            >>> ToxicityFilter().reason(Document(text="You are an idiot.", source="x"))
            'toxic'
        """
        parts = _SENTENCE_END.split(with_line_feeds(document.text))
        sentences = [part for part in parts if part.strip()]
        hits = sum(map(self.judge or is_toxic, sentences))
        return "toxic" if hits > self.max_sentences * len(sentences) else None
