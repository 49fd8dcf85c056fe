"""Numbers that prove themselves: payment cards (Luhn) and bank accounts (IBAN, modulo 97)."""

import re
from collections.abc import Iterator

from llmlib.data.privacy.spans import Span

_CARD = re.compile(r"(?<![\w.+\-])(?:\d[ -]?){12,18}\d(?![\w]|[.\-]\d)")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d\d(?:[ ]?[A-Z0-9]){11,30}")
# Length by country, from the SWIFT registry of IBAN formats (ISO 13616).
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE",), 16),
    **dict.fromkeys(("DK", "FI", "NL"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU", "XK"), 20),
    **dict.fromkeys(("CH", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "BH", "CR", "DE", "GB", "GE", "IE", "ME", "RS"), 22),
    **dict.fromkeys(("AE", "GI", "IL", "IQ"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN"), 24),
    **dict.fromkeys(("PT",), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("FR", "GR", "IT", "MC", "SM"), 27),
    **dict.fromkeys(("AL", "AZ", "CY", "DO", "HU", "LB", "PL"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
}


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
    """Check length and check digits of an account number in capitals and digits, without spaces.

    The first four characters go to the end, letters become numbers (A is 10, Z is 35), and the
    whole, read as one number, leaves 1 when divided by 97.

    Example:
        >>> iban_valid("GB82WEST12345698765432"), iban_valid("GB82WEST12345698765423")
        (True, False)

    References:
        ISO 7064:2003, MOD 97-10.
    """
    if _IBAN_LENGTHS.get(iban[:2]) != len(iban):
        return False
    return int("".join(str(int(letter, 36)) for letter in iban[4:] + iban[:4])) % 97 == 1


def find_cards(text: str) -> Iterator[Span]:
    """Find payment card numbers: an issuer's prefix and length, and a right check digit.

    Example:
        >>> [span.text for span in find_cards("4111 1111 1111 1111 or 4111 1111 1111 1112")]
        ['4111 1111 1111 1111']
    """
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if _issued(digits) and luhn_valid(digits):
            yield Span(*match.span(), "card", match[0])


def find_ibans(text: str) -> Iterator[Span]:
    """Find bank account numbers, spaces inside, whose length and check digits are right.

    Example:
        >>> [span.text for span in find_ibans("Pay to BE68 5390 0754 7034 BY Friday")]
        ['BE68 5390 0754 7034']
    """
    for match in _IBAN.finditer(text):
        wanted = _IBAN_LENGTHS.get(match[0][:2], 0)
        places = [match.start() + i for i, letter in enumerate(match[0]) if letter != " "]
        if not 0 < wanted <= len(places):
            continue
        stop = places[wanted - 1] + 1  # what follows may be words in capitals
        found = text[match.start() : stop]
        ends = stop == len(text) or not text[stop].isalnum()
        if ends and iban_valid(found.replace(" ", "")):
            yield Span(match.start(), stop, "iban", found)


def _issued(digits: str) -> bool:
    """Whether one of the six large networks gives out this prefix and length (ISO/IEC 7812)."""
    length, two, three, four = len(digits), *(int(digits[:n]) for n in (2, 3, 4))
    if digits[0] == "4":
        return length in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return length == 16
    if two in (34, 37):
        return length == 15
    if two in (36, 38, 39) or 300 <= three <= 305 or three == 309:
        return length == 14
    return (four == 6011 or two in (62, 65) or 3528 <= four <= 3589) and 16 <= length <= 19
