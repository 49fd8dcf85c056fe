"""Telephone numbers: by country code, in the printed forms of countries, after telling words."""

import re
from collections.abc import Iterator

import regex

from llmlib.data.privacy.folding import ENDS, STARTS, TOUCHING, fold
from llmlib.data.privacy.registries import calling_codes
from llmlib.data.privacy.spans import Span

_SIX_DIGITS = re.compile(r"\d(?:[ ().\-/]{0,9}\d){5}")  # most texts need no closer look
_ENDS = ENDS + r"(?![.\-]\d)"
_INTERNATIONAL = re.compile(
    r"(?<![A-Za-z0-9+])(?<!\d\.)(?:\+|(?<![\-/])(?:00|011[ -]))([1-9]\d{0,2})"
    r"(\)?[ .\-/]{0,3}(?:\(\d{1,5}\)[ .\-/]{0,3})?\d(?:[ .\-/()]{0,3}\d){2,16})",
    re.ASCII,
)
_NORTH_AMERICAN = re.compile(
    rf"{STARTS}(?<![.+\-/])(?:1[ .\-])?"
    r"(?:\([2-9]\d{2}\) ?[2-9]\d{2}[ .\-]|[2-9]\d{2}([.\-])[2-9]\d{2}\1|[2-9]\d{2} [2-9]\d{2}-)"
    rf"\d{{4}}{_ENDS}",
    re.ASCII,
)
# National numbers begin with 0 nearly everywhere, and then an area. How many of the groups behind
# it belong to it, `_trunk_forms` decides.
_TRUNK = re.compile(
    rf"{STARTS}(?<![+\-/,])(?<!\d[.: ])"
    r"(?:\(0[1-9]\d{0,4}\) ?|0[1-9]\d{0,4}(?: ?[/\-] ?|[ .])|0 [1-9]\d\d )"
    r"\d{2,9}(?:[ .\-]\d{1,8}){0,6}(?!\d)",
    re.ASCII,
)
_OTHER_FORMS = re.compile(
    rf"{STARTS}(?<![+\-/])(?<!\d[. ])(?:"
    r"[78][ -]\(?[3-9]\d\d\)?[ -]\d{3}[ -]\d\d[ -]?\d\d"  # Russia, Kazakhstan
    r"|\([1-9]\d\) ?9?\d{4}[ -]\d{4}"  # Brazil, Mexico
    r"|0\d{1,3}\(\d{1,4}\)\d{4}"  # Japan
    r"|1[3-9]\d([ -])\d{4}\1\d{4}|[48]00-\d{3}-\d{4}"  # China
    r"|[6-9]\d\d([ .])\d\d\2\d\d\2\d\d(?!\2\d\d(?!\d))"  # Spain
    r"|0\d{2,4} 15-\d{3,4}-\d{4}|\(60\d\) \d{3} ?\d{4}"  # Argentina, Colombia
    r"|0[1-9]\d?-\d\d\d? \d\d \d\d"  # Sweden
    rf"){_ENDS}(?! (?!(?:19|20)\d\d(?!\d))\d)",
    re.ASCII,
)
# Mobile numbers of China, Korea and Japan in one piece, where such a script touches them.
_EASTERN = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]"
_COMPACT = regex.compile(
    rf"(?:(?<={_EASTERN}|{_EASTERN}[: ])|(?<![\w.+-])(?=\d{{10,11}}{_EASTERN}))"
    r"(?:1[3-9]\d{9}|01[016-9]\d{7,8}|0[789]0\d{8})(?![A-Za-z0-9]|[.-]\d)"
)
_CUE = regex.compile(
    r"(?<![^\W" + TOUCHING + r"])(?:(?:tele)?phone|tel|mobile|mob|cell|fax|whatsapp|telefon|tél"
    r"|téléphone|portable|numéro|handy|rufnummer|móvil|celular|teléfono|telefone|telemóvel|telefono"
    r"|cellulare|telefoon|mobiel|tlf|puhelin|gsm|komórka|телефон|тел|моб|факс|τηλ|τηλέφωνο|هاتف"
    r"|جوال|تلفن|موبایل|טלפון|फ़ोन|फोन|मोबाइल|điện thoại|(?:call|ring|text|reach)"
    r" (?:me|us|him|her|them)|phone number)(?![^\W" + TOUCHING + r"])"
    r"[^\d\n+(]{0,24}?(\+?\(?\d[\d ().\-/]{4,20}\d)(?![A-Za-z0-9])"
    r"|(?:手机|手機|电话|電話|热线|熱線|携帯|ファックス|전화|휴대폰|핸드폰|연락처|โทรศัพท์|โทร|เบอร์)"
    r"[^\d\n+(]{0,8}(\+?\(?\d[\d ()\-]{4,20}\d)(?![A-Za-z0-9])",
    regex.IGNORECASE,
)
_DATE = re.compile(
    r"(?:19|20)\d\d([-./ ])\d{1,2}\1\d{1,2}|\d{1,2}([-./ ])\d{1,2}\2(?:19|20)?\d\d(?! ?\d)"
)
_HOURS_OR_YEARS = re.compile(r"24([ /.\-])7\1(?:365)|(?:19|20)\d\d-(?:19|20)\d\d")
_GOES_ON = re.compile(r"[A-Za-z0-9]|_[A-Za-z0-9]|[.\-]\d|[:/]\d", re.ASCII)
_TRUNK_ZERO = re.compile(r"[) .\-/]{0,4}\(0\)")  # as in +44 (0)20
_YEAR = re.compile(r" (?:19|20)\d\d$")
_CLOCK = re.compile(r" \(?\d{1,2}$")


def find_phones(text: str) -> Iterator[Span]:
    """Find telephone numbers: international, in a national form, or any after such a word as "tel".

    A national form is a leading 0 and groups of digits, or the groups of a few large countries that
    write no 0. Other digits without such a word are left alone: they may count anything.

    Spans may overlap.

    Example:
        >>> [span.text for span in find_phones("Tel. 01632 960011; ISBN 978-0-306-40615-7")]
        ['01632 960011']

    References:
        ITU-T E.164 (country codes), E.123 (notation).
    """
    plain = fold(text)
    if not _SIX_DIGITS.search(plain):
        return
    forms = [*_international(plain), *(m.span() for m in _NORTH_AMERICAN.finditer(plain))]
    forms += _trunk_forms(plain)
    forms += [m.span() for m in _OTHER_FORMS.finditer(plain)]
    forms += [m.span() for m in _COMPACT.finditer(plain)]
    begun = {start for start, _ in forms}
    for match in _CUE.finditer(plain):
        start, stop = match.span(1 if match[1] else 2)
        number = plain[start:stop]
        if start in begun or _DATE.match(number):  # a form knows better where the number ends
            continue
        if _HOURS_OR_YEARS.fullmatch(number):
            continue
        clock = plain[stop : stop + 1] in (":", "/")  # its first digits, or those of a date
        tail = (_CLOCK if clock else _YEAR).search(number)
        if tail and tail.end() == len(number) and _digits(number[: tail.start()]) >= 7:
            number = number[: tail.start()].rstrip(" (-/.")
            stop = start + len(number)
        if (7 if number.isdigit() else 6) <= _digits(number) <= 15:
            forms.append((start, stop))
    for start, stop in forms:
        yield Span(start, stop, "phone", text[start:stop])


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _international(plain: str) -> Iterator[tuple[int, int]]:
    """Where numbers with a country code begin and end: at the last digit group that fits it."""
    for match in _INTERNATIONAL.finditer(plain):
        for width in (1, 2, 3):
            code = plain[match.start(1) : match.start(1) + width]
            if code in calling_codes():
                break
        else:
            continue
        least, most = calling_codes()[code]
        first = match.start(1) + len(code)
        trunk = _TRUNK_ZERO.match(plain, first)
        first = trunk.end() if trunk else first
        separated = not match[0].lstrip("+").isdigit()
        if not separated and not (match[0][0] == "+" and len(match[0]) >= 10):
            continue
        fitting = [
            stop
            for stop in range(match.end(), first, -1)
            if plain[stop - 1].isdigit()
            and least <= _digits(plain[first:stop]) <= most
            and not _GOES_ON.match(plain, stop)
        ]
        if fitting:
            start = match.start()
            if plain[start - 1 : start] == "(" and plain[match.end(1) : match.end(1) + 1] == ")":
                start -= 1
            year = len(fitting) > 1 and _YEAR.match(plain, fitting[1], fitting[0])
            yield start, fitting[1 if year else 0]


def _trunk_forms(plain: str) -> Iterator[tuple[int, int]]:
    """Where numbers with a leading 0 begin and end: at the last group that makes such a form."""
    for match in _TRUNK.finditer(plain):
        groups = [group.span() for group in re.finditer(r"\d+", match[0])]
        for last in range(len(groups), 1, -1):
            sizes = tuple(stop - start for start, stop in groups[:last])
            stop = groups[last - 1][1]
            signs = set(re.findall(r"[ .\-/]+", match[0][:stop]))
            ends = not _GOES_ON.match(plain, match.start() + stop)
            if ends and len(groups) - last <= 2 and _is_trunk_form(sizes, signs):
                behind = groups[last : last + 1]
                if set(sizes) != {2} or not behind or behind[0][1] - behind[0][0] != 2:
                    yield match.start(), match.start() + stop  # and no list of pairs
                break


def _is_trunk_form(sizes: tuple[int, ...], signs: set[str]) -> bool:
    """Whether the groups of digits are those of telephones, and not of dates, books or columns."""
    if not 9 <= sum(sizes) <= 12 or sizes[0] > 6:
        return False
    if "." in signs:
        return sizes in ((2, 2, 2, 2, 2), (3, 3, 2, 2), (3, 3, 4), (2, 4, 4), (3, 2, 2, 2))
    if set(sizes) == {2}:  # as in France
        return len(sizes) == 5
    if len(sizes) == 2:
        return sizes[0] > 1 and sizes[1] >= 5
    if sizes == (3, 2, 4):  # US social security
        return False
    if sizes in ((3, 3, 3), (4, 4, 4), (3, 3, 3, 3)) and signs == {" "}:  # columns
        return False
    return (max(sizes[1:]) <= 5 or sizes[-1] <= 2) and min(sizes[1:-1]) >= 2
