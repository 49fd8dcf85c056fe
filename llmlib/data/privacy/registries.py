"""What registries give out: account formats by country, card prefixes, country calling codes."""

import re
from functools import cache

# ISO 13616, SWIFT's IBAN registry, release 101 (2026): the account part behind country and check
# digits, as number and kind of characters (n digits, a capitals, c either). Territories that use
# another country's code (Jersey GB, Réunion FR, Åland FI) have no row of their own there.
_IBAN_FORMATS = """
AD 8n12c, AE 19n, AL 8n16c, AT 16n, AZ 4a20c, BA 16n, BE 12n, BG 4a6n8c, BH 4a14c, BI 23n,
BR 23n1a1c, BY 4c4n16c, CH 5n12c, CR 18n, CY 8n16c, CZ 20n, DE 18n, DJ 23n, DK 14n, DO 4c20n,
EE 16n, EG 25n, ES 20n, FI 14n, FK 2a12n, FO 14n, FR 10n11c2n, GB 4a14n, GE 2a16n, GI 4a15c,
GL 14n, GR 7n16c, GT 24c, HN 4a20n, HR 17n, HU 24n, IE 4a14n, IL 19n, IQ 4a15n, IS 22n,
IT 1a10n12c, JO 4a4n18c, KW 4a22c, KZ 3n13c, LB 4n20c, LC 4a24c, LI 5n12c, LT 16n, LU 3n13c,
LV 4a13c, LY 21n, MC 10n11c2n, MD 20c, ME 18n, MK 3n10c2n, MN 16n, MR 23n, MT 4a5n18c, MU 4a19n3a,
NI 4a20n, NL 4a10n, NO 11n, OM 3n16c, PK 4a16c, PL 24n, PS 4a21c, PT 21n, QA 4a21c, RO 4a16c,
RS 18n, RU 14n15c, SA 2n18c, SC 4a20n3a, SD 14n, SE 20n, SI 15n, SK 20n, SM 1a10n12c, SO 19n,
ST 21n, SV 4a20n, TL 19n, TN 20n, TR 6n16c, UA 6n19c, VA 18n, VG 4a16n, XK 16n, YE 4a4n18c
"""

# ISO/IEC 7812: the first digits, one number or a range of them, and how many digits there are in
# all. From the networks' published ranges, November 2026; those of withdrawn networks (Solo, Laser,
# Bankcard) may still stand in old text.
_CARD_PREFIXES = """
Visa 4 13 16 19
Mastercard 51-55 16, 2221-2720 16
Maestro 5018 12-19, 5020 12-19, 5038 12-19, 5893 12-19, 6304 12-19, 6759 12-19, 6761-6763 12-19
American_Express 34 15, 37 15
Diners 300-305 14-19, 309 14-19, 36 14-19, 38-39 14-19
Discover 6011 16-19, 644-649 16-19, 65 16-19
JCB 3528-3589 16-19
UnionPay 62 16-19, 81 16-19
T-Union 31 19
Mir 2200-2204 16-19
RuPay 60 16, 82 16, 508 16
Troy 9792 16
Verve 506099-506198 16 18 19, 507865-507964 16 18 19
Dankort 5019 16
UATP 1 15
Elo 506699-506778 16, 509000-509999 16, 627780 16, 636297 16, 636368 16
InstaPayment 637-639 16
GPN 1946 16 18 19
Uzcard 5614 16, 8600 16
Humo 9860 16
Napas 9704 16 19
Borica 2205 16
Solo_Switch 6331 16 18 19, 6333-6334 16 18 19, 6767 16 18 19, 564182 16 18 19
Laser 6706 16-19, 6709 16-19, 6771 16-19
Bankcard 5610 16, 560221-560225 16
"""

# ITU-T E.164 country codes (November 2026) by the least and most digits of a national number, for
# fixed and mobile lines as libphonenumber 9.0.43 gives them.
_CALLING_CODES = """
4-5 290, 4-7 683 690, 4-11 352, 4-13 43, 5-5 247 500 682, 5-7 676 677 678 688, 5-8 686, 5-9 27,
5-10 358 685 82, 5-15 49, 6-6 298 299 672 681 687, 6-7 597, 6-9 252 359 376 40 421 508,
6-10 53 63 880 95 98, 6-12 39, 7-7 238 239 246 248 269 291 297 501 592 673 674 679 680 691 692 960,
7-8 230 241 267 372 507 599 670 675 961 975, 7-9 220 231 254 265 354 423 46 48 595 967,
7-10 243 353, 7-11 86, 7-12 381 62 882, 8-8 216 222 223 226 227 228 232 235 236 253 257 266 268 350
356 357 370 371 373 374 382 386 389 45 47 502 503 504 505 506 509 591 598 65 689 800 808 852 853
965 968 973 974 993, 8-9 213 224 250 258 264 32 355 36 377 385 387 51 593 66 855 886 962 963 970
971, 8-10 20 378 57 60 64 850 856 964 976 977, 8-12 383 883 972, 9-9 211 212 218 221 233 237 240
242 244 245 249 251 255 256 260 261 262 263 33 34 351 375 380 41 420 56 590 594 596 61 93 94 966
979 992 994 995 996 998, 9-10 44 81 84 881 92, 9-11 31, 9-12 870, 10-10 1 225 229 234 30 52 58 7 90
91, 10-11 54 55, 11-11 888, 12-12 878
"""


@cache
def iban_formats() -> dict[str, tuple[int, re.Pattern[str]]]:
    """Length of a whole account number and pattern of its account part, by country."""
    kinds = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}
    formats = {}
    for row in _IBAN_FORMATS.split(","):
        country, spec = row.split()
        parts = [(int(count), kind) for count, kind in re.findall(r"(\d+)([nac])", spec)]
        pattern = "".join(f"{kinds[kind]}{{{count}}}" for count, kind in parts)
        formats[country] = (4 + sum(count for count, _ in parts), re.compile(pattern))
    return formats


@cache
def _card_ranges() -> list[tuple[int, int, int, frozenset[int]]]:
    """Digits of a prefix, the first and last prefix, and the lengths of the whole."""
    ranges = []
    for line in _CARD_PREFIXES.strip().splitlines():
        for row in line.split(" ", 1)[1].split(", "):
            prefix, *lengths = row.split()
            low, _, high = prefix.partition("-")
            ends = [length.split("-") for length in lengths]
            sizes = {size for end in ends for size in range(int(end[0]), int(end[-1]) + 1)}
            ranges.append((len(low), int(low), int(high or low), frozenset(sizes)))
    return ranges


def is_issued(digits: str) -> bool:
    """Whether some network gives out cards of this prefix and length.

    Example:
        >>> is_issued("2221000000000009"), is_issued("2721000000000004")
        (True, False)
    """
    return any(
        low <= int(digits[:width]) <= high and len(digits) in lengths
        for width, low, high, lengths in _card_ranges()
    )


@cache
def calling_codes() -> dict[str, tuple[int, int]]:
    """The least and most digits of a national number, by country code.

    Example:
        >>> calling_codes()["33"]
        (9, 9)
    """
    codes = {}
    for row in _CALLING_CODES.split(","):
        lengths, *countries = row.split()
        least, most = map(int, lengths.split("-"))
        codes |= dict.fromkeys(countries, (least, most))
    return codes
