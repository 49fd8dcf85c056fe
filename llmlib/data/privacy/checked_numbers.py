"""Numbers that prove themselves: payment cards (Luhn) and bank accounts (IBAN, modulo 97)."""

import re
from collections.abc import Iterator

from llmlib.data.privacy.folding import ENDS, STARTS, fold
from llmlib.data.privacy.registries import iban_formats, is_issued
from llmlib.data.privacy.spans import Span

# Groups of digits; which of them make a card is tried one by one.
_DIGITS = re.compile(rf"{STARTS}(?<!\+)(?<!\d\.)(?<!\w-)\d+(?:(?: ?- ?| {{1,2}}|\.)\d+)*", re.ASCII)
_GROUP = re.compile(r"\d+")
_CARD_ENDS = re.compile(ENDS + r"(?![.\-]\d)", re.ASCII)
_HYPHENATED_ENDS = re.compile(ENDS + r"(?!\.\d|-\d{5})", re.ASCII)
_IBAN = re.compile(
    rf"{STARTS}(?=[A-Z]{{2}}\d\d((?:[ -]?[A-Z0-9]){{11,30}}))", re.ASCII | re.IGNORECASE
)
_IBAN_ENDS = re.compile(ENDS)


def luhn_valid(digits: str) -> bool:
    r"""Check a number's last digit: from the right, every second digit counts double.

    $\sum_i s(d_i) \equiv 0 \pmod{10}$, where s doubles each second digit from the right and
    adds the digits of the result. Any single wrong digit is caught, and of two exchanged
    neighbours all but 09 and 90.

    Example:
        >>> luhn_valid("4111111111111111"), luhn_valid("4111111111111112")
        (True, False)
    """
    doubled = "0246813579"  # the digit sum of twice the digit
    total = sum(map(int, digits[-1::-2])) + sum(int(doubled[int(d)]) for d in digits[-2::-2])
    return total % 10 == 0


def iban_valid(iban: str) -> bool:
    """Check format and check digits of an account number in capitals and digits, without spaces.

    The first four characters go to the end, letters become numbers (A is 10, Z is 35), and the
    whole, read as one number, leaves 1 when divided by 97.

    Example:
        >>> iban_valid("GB82WEST12345698765432"), iban_valid("GB82WEST12345698765423")
        (True, False)

    References:
        ISO 13616-1:2020 (formats of countries); ISO 7064:2003, MOD 97-10.
    """
    _, account = iban_formats().get(iban[:2], (0, None))
    if account is None or not account.fullmatch(iban[4:]):
        return False
    if not "02" <= iban[2:4] <= "98":  # 00, 01 and 99 are never given out
        return False
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97 == 1


def find_cards(text: str) -> Iterator[Span]:
    """Find payment card numbers: an issuer's prefix and length, and a right check digit.

    Other numbers beside a card, such as its last month, are left alone.

    Example:
        >>> [span.text for span in find_cards("4111 1111 1111 1111 2027 or 4111 1111 1111 1112")]
        ['4111 1111 1111 1111']
    """
    plain = fold(text)
    for run in _DIGITS.finditer(plain):
        groups = [group.span() for group in _GROUP.finditer(plain, *run.span())]
        first = 0
        while first < len(groups):
            last = _last_of_card(plain, groups, first)
            if last is None:
                first += 1
                continue
            start, stop = groups[first][0], groups[last][1]
            yield Span(start, stop, "card", text[start:stop])
            first = last + 1


def find_ibans(text: str) -> Iterator[Span]:
    """Find bank account numbers, spaces inside, whose format and check digits are right.

    Example:
        >>> [span.text for span in find_ibans("Pay to BE68 5390 0754 7034 BY Friday")]
        ['BE68 5390 0754 7034']
    """
    plain = fold(text)
    for match in _IBAN.finditer(plain):
        wanted, _ = iban_formats().get(plain[match.start() : match.start() + 2].upper(), (0, None))
        places = [i for i in range(match.start(), match.end(1)) if plain[i].isalnum()]
        if not 0 < wanted <= len(places):
            continue
        stop = places[wanted - 1] + 1  # what follows may be words in capitals
        found = plain[match.start() : stop]
        letters = re.sub("[ -]", "", found)
        # Small letters, as in words, count only without a gap or in the printed groups of four.
        grouped = all(map(str.isalnum, found)) or set(map(len, re.split("[ -]", found)[:-1])) == {4}
        readable = found.isupper() or grouped
        if readable and _IBAN_ENDS.match(plain, stop) and iban_valid(letters.upper()):
            yield Span(match.start(), stop, "iban", text[match.start() : stop])


def _last_of_card(plain: str, groups: list[tuple[int, int]], first: int) -> int | None:
    """Last group of the longest card that begins with a group, if one does."""
    if first and plain[groups[first - 1][1] : groups[first][0]].strip():
        return None  # a hyphen or a point goes on with what stands before
    size = groups[first][1] - groups[first][0]
    if first and size not in (4, 6) and size < 12:
        return None  # no card is printed so
    longest = True
    for last in range(min(len(groups), first + 19) - 1, first - 1, -1):
        window = groups[first : last + 1]
        digits = "".join(plain[start:stop] for start, stop in window)
        between = {plain[a[1] : b[0]] for a, b in zip(window, window[1:], strict=False)}
        # What a card's own hyphen adds is its check value.
        ends = _HYPHENATED_ENDS if between == {"-"} else _CARD_ENDS
        if not 12 <= len(digits) <= 19 or not ends.match(plain, window[-1][1]):
            continue
        printed = _is_printed_so([stop - start for start, stop in window], between)
        loose = first == 0 and longest and between <= {" ", "-"}
        tried = printed or loose  # in any grouping only the longest
        if tried and is_issued(digits) and luhn_valid(digits):
            return last
        longest = False
    return None


def _is_printed_so(sizes: list[int], between: set[str]) -> bool:
    """Whether a card may be printed in groups of these sizes, with the same sign between them."""
    fours = set(sizes[:-1]) <= {4} and sizes[-1] <= 4
    known = fours or sizes in ([4, 6, 5], [4, 6, 4], [6, 13])
    return len(sizes) == 1 or (len(between) == 1 and known)
