"""Addresses of people and of their machines: e-mail, telephone, IPv4 and IPv6.

Every pattern begins at a boundary and repeats at most a fixed number of times, so that the time is
linear in the text even where someone pastes a megabyte without a space.
"""

import ipaddress
import re
from collections.abc import Iterator

from llmlib.data.privacy.spans import Span, spans_of

_AT = r"(?:@| ?\[at\] ?| ?\(at\) ?)"
_DOT = r"(?:\.| ?\[dot\] ?| ?\(dot\) ?)"
_EMAIL = re.compile(
    r"(?<![\w.+%-])[\w][\w.+%'-]{0,63}"
    + _AT
    + r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?"
    + _DOT
    + r"){1,4}([^\W\d_]{2,24})(?![\w-])",
    re.IGNORECASE,
)
_FILE_ENDINGS = {"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "py", "html", "so"}

_INTERNATIONAL = re.compile(
    r"(?<![\w+.])\+[1-9]\d{0,2}[ .\-/]?(?:\(\d{1,4}\)[ .\-]?)?\d(?:[ .\-/]?\d){5,12}(?!\w)"
)
_NORTH_AMERICAN = re.compile(
    r"(?<![\w.+\-/])(?:1[ .\-])?"
    r"(?:\([2-9]\d{2}\) ?[2-9]\d{2}[ .\-]|[2-9]\d{2}([.\-])[2-9]\d{2}\1)\d{4}(?![\w]|[.\-]\d)"
)
_SEVEN_DIGITS = re.compile(r"\d(?:[ ().\-/]{0,9}\d){6}")  # most texts need no closer look
_CUE = re.compile(
    r"(?<!\w)(?:(?:tele)?phone|tel|mobile|mob|cell|fax|whatsapp|telefon|tél|handy|móvil|teléfono"
    r"|(?:call|ring|text|reach) (?:me|us|him|her|them)|phone number)(?!\w)[^\d\n+]{0,24}?"
    r"(\+?\(?\d[\d ().\-/]{5,20}\d)(?!\w)|(?:手机|电话|热线)[^\d\n+]{0,8}(\+?\d[\d \-]{5,20}\d)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d\d([-./ ])\d{1,2}\1\d{1,2}|\d{1,2}([-./ ])\d{1,2}\2(?:19|20)?\d\d")

_IPV4 = re.compile(r"(?<![\w.\-])(?:\d{1,3}\.){3}\d{1,3}(?![\w\-]|\.\d)")
_NUMBERED = re.compile(
    r"(?:version|release|section|chapter|clause|v|sec|§|rev|build|==|>=|<=)[.\s]*$", re.IGNORECASE
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:.]{2,41}[0-9A-Fa-f](?![\w:])")
# Addresses that name no one: one's own machine, the local network, masks and broadcasts.
_NOBODY = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
]
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


def find_emails(text: str) -> Iterator[Span]:
    """Find e-mail addresses, also those written with `[at]` and `[dot]`.

    Example:
        >>> [span.text for span in find_emails("Ask ada@example.org, not @property or icon@2x.png")]
        ['ada@example.org']
    """
    if "@" not in text and "at]" not in text.lower() and "at)" not in text.lower():
        return
    matches = _EMAIL.finditer(text)
    yield from spans_of("email", (m for m in matches if m[1].lower() not in _FILE_ENDINGS))


def find_phones(text: str) -> Iterator[Span]:
    """Find telephone numbers: international, North American, or any after a word such as "phone".

    Digits without such a form or such a word are left alone: they may count anything.

    Spans may overlap.

    Example:
        >>> [span.text for span in find_phones("Tel. 01632 960011; ISBN 978-0-306-40615-7")]
        ['01632 960011']
    """
    if not _SEVEN_DIGITS.search(text):
        return
    for match in _INTERNATIONAL.finditer(text):
        digits = sum(map(str.isdigit, match[0]))
        separated = digits + 1 < len(match[0])
        if (8 if separated else 10) <= digits <= 15:
            yield Span(*match.span(), "phone", match[0])
    yield from spans_of("phone", _NORTH_AMERICAN.finditer(text))
    for match in _CUE.finditer(text):
        number = 1 if match[1] else 2
        if 7 <= sum(map(str.isdigit, match[number])) <= 15 and not _DATE.match(match[number]):
            yield Span(*match.span(number), "phone", match[number])


def find_ips(text: str) -> Iterator[Span]:
    """Find IPv4 and IPv6 addresses that may belong to someone.

    Addresses of the machine itself, of local networks, and masks are left alone, and so are
    version and section numbers of four parts.

    Example:
        >>> [s.text for s in find_ips("192.0.2.7 and 2001:db8::7, not 127.0.0.1, a[::2] or 12:30")]
        ['192.0.2.7', '2001:db8::7']
    """
    for match in _IPV4.finditer(text):
        try:
            address = ipaddress.IPv4Address(match[0])
        except ValueError:  # a part above 255 or with a leading zero
            continue
        if any(address in network for network in _NOBODY):
            continue
        if not _NUMBERED.search(text, max(0, match.start() - 12), match.start()):
            yield Span(*match.span(), "ipv4", match[0])
    for match in _IPV6.finditer(text):
        try:
            known = ipaddress.IPv6Address(match[0]) in _GLOBAL_UNICAST
        except ValueError:  # a time, a MAC address, a slice
            continue
        if known:
            yield Span(*match.span(), "ipv6", match[0])
