r"""Patterns of `tokenizer.json`, which Oniguruma reads for tokenizers and `regex` reads here.

The two engines differ: `\h` is a hexadecimal digit to one and a blank to the other, `^` is the
beginning of a line or of the text, `\w` has or has not `²`. So what both were found to read alike,
over all of Unicode, is taken; anything else is refused.
"""

import regex

_SCRIPTS = (
    "Arabic|Bengali|Common|Cyrillic|Devanagari|Greek|Han|Hangul|Hebrew|Hiragana|Katakana|Latin|"
    "Tamil|Thai"
)
_CATEGORIES = "L[ultmo]?|M[nce]?|N[dlo]?|P[cdseifo]?|S[mcko]?|Z[slp]?|C[cfo]?"
_ESCAPE = rf"\\(?:[pP]\{{\^?(?:{_CATEGORIES}|{_SCRIPTS})\}}|[sSdDrntfv]|[^\w\s])"
_CLASS = rf"\[\^?(?:{_ESCAPE}|(?!&&)[^\\\[\]])+\]"
# Letter case: no sequence that one engine folds into one character (ss, ß), and no dotted i.
_FOLDED = r"\(\?i:(?:(?!ss|st|ff|fi|fl)[a-hj-z'|]|\[[a-hj-z']+\])*\)"
_GROUP = r"\((?!\?)|\(\?(?:[:=!>]|<[=!])|\)|\|"
_COUNT = r"(?:[?*+][?+]?|\{\d+(?:,\d*)?\})(?![?*+{])"
_LITERAL = r"[^\\\[\](){}?*+.^$|]|\."
_READ_ALIKE = regex.compile(f"(?:{_FOLDED}|{_GROUP}|(?:{_CLASS}|{_ESCAPE}|{_LITERAL}|{_COUNT}))*+")


def check_pattern(pattern: str) -> str:
    r"""Return a pattern that Oniguruma and `regex` read alike.

    Raises:
        ValueError: If it holds something else, or nothing.

    Example:
        >>> check_pattern(r"\p{N}{1,3}| ?\p{L}++")
        '\\p{N}{1,3}| ?\\p{L}++'
    """
    alike = _READ_ALIKE.match(pattern)
    assert alike is not None
    if not pattern or alike.end() < len(pattern):
        rest = pattern[alike.end() : alike.end() + 12]
        raise ValueError(
            f"the tokenizer cuts text by the pattern {pattern!r}, of which {rest!r} is not "
            "supported: engines of regular expressions read it differently"
        )
    return pattern
