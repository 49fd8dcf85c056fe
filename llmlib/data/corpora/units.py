"""What text is measured in, whatever its script and system: words, lines and bytes.

White space parts the words of English and of most languages. Chinese, Japanese, Thai, Lao, Khmer,
Burmese and Tibetan are written without it: there each letter is taken for a word, which needs no
dictionary and serves to count, to compare and to find again.
"""

import re
from functools import cache

UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f"  # Thai to Bali
    "\u3005-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"  # kana, Han
    "\ua980-\ua9ff\uaa60-\uaadf\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
"""Blocks of the scripts without spaces between words, for a character class of `re` or `regex`."""
LONE_WORD = rf"(?=[\p{{L}}\p{{N}}])[{UNSPACED}]\p{{M}}*"
"""Pattern of `regex`: a letter of such a script with its vowels and tones."""
JOINED_WORD = rf"(?:(?![{UNSPACED}])[\p{{L}}\p{{N}}_]\p{{M}}*)+"
"""Pattern of `regex`: a run of letters, digits and their marks in any other script."""
LINE_END = r"(?>\r\n|[\n\r\x85\u2028\u2029])"
r"""Pattern of `re`: a line's end as Unix, Windows, old Macs (`\r`), mainframes (`\x85`) and Unicode
(U+2028, U+2029) write it; a form feed parts pages, not lines."""

_HIDDEN = "\u200b\u2060\ufeff"
_EDGE = rf"(?:\b|(?<=[{UNSPACED}])|(?=[{UNSPACED}]))"
_OTHER_ENDS = ("\r", "\x85", "\u2028", "\u2029")
_ANY_END = re.compile(LINE_END)
_SOME_UNSPACED = re.compile(f"[{UNSPACED}]")
_HIDDEN_AT_LETTERS = re.compile(
    rf"(?<=[{UNSPACED}])[{_HIDDEN}]++|(?<![{_HIDDEN}])[{_HIDDEN}]++(?=[{UNSPACED}])"
)
_WORDS = re.compile(rf"(?=\w)[{UNSPACED}][^\w\s]*|(?:[^\s{UNSPACED}]|[^\w\s])+")


def words_of(text: str) -> list[str]:
    """Split a text into words with their punctuation, as `str.split` does where there are spaces.

    What `hidden_spans` finds belongs to no word.

    Example:
        >>> words_of("to be, or"), words_of("我有3只猫。ok?")
        (['to', 'be,', 'or'], ['我', '有', '3', '只', '猫。', 'ok?'])
    """
    if not has_unspaced(text):
        return text.split()
    if _may_hide(text):
        text = _HIDDEN_AT_LETTERS.sub("", text)
    return _WORDS.findall(text)


def hidden_spans(text: str) -> list[tuple[int, int]]:
    r"""Find characters without width (U+200B, U+2060, U+FEFF) at letters of unspaced scripts.

    Thai, Khmer and Burmese pages write U+200B where a line may break, or leave it out.

    Example:
        >>> hidden_spans("我\u200b有\u200b cat\u200bs")
        [(1, 2), (3, 4)]
    """
    return [m.span() for m in _HIDDEN_AT_LETTERS.finditer(text)] if _may_hide(text) else []


def _may_hide(text: str) -> bool:
    return any(character in text for character in _HIDDEN)


def has_unspaced(text: str) -> bool:
    """Say whether any letter of a text belongs to a script without spaces."""
    return not text.isascii() and _SOME_UNSPACED.search(text) is not None


def is_unspaced(word: str) -> bool:
    """Say whether a word of `words_of` is a letter of a script without spaces."""
    return _SOME_UNSPACED.match(word) is not None and word[0].isalnum()


def between_letters(pattern: re.Pattern[str], text: str) -> re.Pattern[str]:
    r"""Return a pattern of English words for a text: `\b` also parts them from ideographs.

    Example:
        >>> cats, text = re.compile(r"\bcats\b"), "我有cats。"
        >>> between_letters(cats, text).findall(text), cats.findall(text)
        (['cats'], [])
    """
    return _with_edges(pattern) if has_unspaced(text) else pattern


@cache
def _with_edges(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(pattern.pattern.replace(r"\b", _EDGE), pattern.flags)


def with_line_feeds(text: str) -> str:
    r"""Write every line's end as `\n`; the same object if it is so already.

    Example:
        >>> with_line_feeds("one\r\ntwo\rthree\n")
        'one\ntwo\nthree\n'
    """
    if not any(end in text for end in _OTHER_ENDS):
        return text
    return _ANY_END.sub("\n", text)


def text_bytes(text: str) -> int:
    """Count UTF-8 bytes; a lone surrogate, left behind by a wrong decoding, counts 3.

    Example:
        >>> text_bytes("naïve"), text_bytes(chr(0xD800))
        (6, 3)
    """
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
