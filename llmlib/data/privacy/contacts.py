"""Addresses of mailboxes and of machines: e-mail, IPv4 and IPv6.

Every pattern begins at a boundary and repeats at most a fixed number of times, so that the time is
linear in the text even where someone pastes a megabyte without a space.
"""

import ipaddress
import re
from collections.abc import Iterator

import regex

from llmlib.data.privacy.folding import ENDS, STARTS, TOUCHING, fold
from llmlib.data.privacy.spans import Span

# Letters, digits and `_` of scripts that put spaces between words.
_LETTER = rf"[^\W{TOUCHING}]"
_LABEL = rf"[^\W_{TOUCHING}](?:(?:{_LETTER}|-){{0,61}}[^\W_{TOUCHING}])?"
_AT = regex.compile(r"@|(?i: ?[\[({]at[\])}] ?)| AT (?=[^\s@]{1,63} DOT )")
_DOT = r"(?:\.|(?i: ?[\[({]dot[\])}] ?)| DOT )"
_LOCAL = regex.compile(rf"(?<!{_LETTER}){_LETTER}(?:{_LETTER}|[.+%'&-]){{0,63}}\Z")
_QUOTED = regex.compile(r"\"(?:[^\"\\\r\n]|\\.){1,62}\"\Z")
_IDEOGRAPHIC_LOCAL = regex.compile(rf"[{TOUCHING}]{{1,16}}\Z")
_DOMAIN = regex.compile(
    rf"((?:{_LABEL}{_DOT}){{1,9}})"
    rf"(xn--[a-z0-9-]{{2,59}}|[a-z]{{2,24}}|vermögensberat(?:er|ung)|(?![a-z])[^\W\d_{TOUCHING}]{{2,24}})"
    r"(?![A-Za-z0-9]|[_-][A-Za-z0-9])",
    regex.IGNORECASE,
)
# The commonest endings of their scripts first: the text may go on without a space.
_IDEOGRAPHIC_DOMAIN = regex.compile(
    rf"(?:[^\W_](?:[\w-]{{0,61}}[^\W_])?\.){{1,4}}"
    rf"(?:中国|中國|香港|台湾|台灣|公司|网络|网址|在线|企业|商城|广告|한국|닷컴|ไทย|みんな|[{TOUCHING}]{{2,8}})"
)
# A label of such a script before an ASCII ending, of those that are registered for them.
_MIXED_DOMAIN = regex.compile(
    r"((?:[a-z0-9][a-z0-9-]{0,62}\.){0,3}"
    rf"(?=[\w-]{{0,62}}[{TOUCHING}])[^\W_](?:[\w-]{{0,61}}[^\W_])?\."
    r"(?:[a-z0-9][a-z0-9-]{0,62}\.){0,2})"
    r"(?:com|net|org|info|biz|asia|shop|xyz|cc|tv|cn|hk|jp|kh|kr|la|mm|mo|sg|th|tw)"
    r"(?![A-Za-z0-9]|[_-][A-Za-z0-9])",
    regex.IGNORECASE,
)
_LITERAL = re.compile(r"\[(?:\d{1,3}(?:\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]{2,45})\]", re.ASCII)
_FILE_ENDINGS = {"png", "jpg", "jpeg", "gif", "svg", "webp", "bmp", "ico", "pdf", "txt", "css"}
_FILE_ENDINGS |= {"js", "jsx", "tsx", "json", "xml", "yaml", "yml", "toml", "html", "htm", "php"}
_FILE_ENDINGS |= {"py", "so"}
_FILES_AND_COUNTRIES = {"py": 2, "so": 1}  # labels before the ending that a domain of them has
_NO_HOST = re.compile(r"\d+(?:\.\d)?x\.|\d+\.\d+\.|(?:self|cls|this|np|torch)\.|v?\d+\.$", re.ASCII)

_QUAD = r"(?:\d{1,3}\.){3}\d{1,3}"
_IPV4 = re.compile(rf"{STARTS}(?<!\.)(?<!\w-)({_QUAD})(?:-({_QUAD}))?{ENDS}(?!-\w|\.\d)", re.ASCII)
_NUMBERED = re.compile(
    r"(?:version|release|section|chapter|clause|v|sec|§|rev|build|==|>=|<=|versión|versão|версия"
    r"|版本|バージョン|버전)(?:[.:\s=\"'_]|号|은|는|は)*$"
    r"|(?:openssl|chrom(?:e|ium)|edg|opr|firmware)[ /]$",  # software numbered in four parts
    re.IGNORECASE,
)
# Only addresses of the global networks name someone; besides them those that hold an IPv4 address.
_IPV6 = re.compile(
    rf"{STARTS}(?<!\.)(?:[23][0-9A-Fa-f]{{3}}:|::ffff:|64:ff9b::)[0-9A-Fa-f:.]{{1,41}}{ENDS}",
    re.ASCII | re.IGNORECASE,
)
_BEFORE_COLON = re.compile(r"[\w:.]*\Z", re.ASCII)
_ADDRESS_BEGUN = re.compile(r"[0-9A-Fa-f:.]*(?:[0-9A-Fa-f]|::)[:.]*")  # a lone colon is a label's
_INDEXED = re.compile(r"[\w)\]]\[\Z", re.ASCII)
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
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


def find_emails(text: str) -> Iterator[Span]:
    """Find e-mail addresses, also those written with `[at]` and `[dot]` or in other alphabets.

    Example:
        >>> [span.text for span in find_emails("Ask ada@example.org, not @property or icon@2x.png")]
        ['ada@example.org']

    References:
        RFC 5321, section 4.1.2 (quoted local parts, address literals); RFC 6531 (other alphabets).
    """
    plain = fold(text)
    for at in _AT.finditer(plain):
        bounds = max(0, at.start() - 66), at.start()
        local = _LOCAL.search(plain, *bounds) or _QUOTED.search(plain, *bounds)
        domain = _domain_after(plain, at)
        if local is None and at[0] == "@" and domain is None:
            local = _IDEOGRAPHIC_LOCAL.search(plain, *bounds)
        if domain is None and local:
            domain = _MIXED_DOMAIN.match(plain, at.end())
            domain = domain or _IDEOGRAPHIC_DOMAIN.match(plain, at.end())
        if local is None or domain is None:
            continue
        start, stop = local.start(), domain.end()
        if plain[start] == plain[stop : stop + 1] == "_":  # emphasis
            start += len(local[0]) - len(local[0].lstrip("_"))
        if start < at.start():
            yield Span(start, stop, "email", text[start:stop])


def find_ips(text: str) -> Iterator[Span]:
    """Find IPv4 and IPv6 addresses that may belong to someone, without port, prefix or zone.

    Addresses of the machine itself, of local networks, and masks are left alone, and so are
    version and section numbers of four parts.

    Example:
        >>> [s.text for s in find_ips("192.0.2.7 and 2001:db8::7, not 127.0.0.1, a[::2] or 12:30")]
        ['192.0.2.7', '2001:db8::7']

    References:
        RFC 4291, section 2.2 (forms of an address); RFC 5952; RFC 6052 (IPv4 inside IPv6).
    """
    plain = fold(text)
    for match in _IPV4.finditer(plain):
        if _NUMBERED.search(plain, max(0, match.start() - 20), match.start()):
            continue
        for start, stop in (match.span(1), match.span(2)):
            if start >= 0 and _is_somebody(plain[start:stop]):
                yield Span(start, stop, "ipv4", text[start:stop])
    for match in _IPV6.finditer(plain):
        found = match[0].rstrip(".")
        if re.search(r"(?<!:):$|:::$", found):  # punctuation
            found = found[:-1]
        start, stop = match.start(), match.start() + len(found)
        called = plain.startswith("()", stop)  # a function, as `2abc::def()`
        if _global_ipv6(found) and not called and not _is_part(plain, start):
            yield Span(start, stop, "ipv6", text[start:stop])


def _domain_after(plain: str, at: regex.Match[str]) -> re.Match[str] | regex.Match[str] | None:
    """A domain or an address in brackets behind an @, if it is no file, version or product."""
    domain = _DOMAIN.match(plain, at.end())
    if domain is None:
        return _LITERAL.match(plain, at.end()) if at[0] == "@" else None
    labels, ending = domain[1], domain[2].lower()
    if ending in _FILE_ENDINGS and not 0 < _FILES_AND_COUNTRIES.get(ending, 0) <= labels.count("."):
        return None
    return None if at[0] == "@" and _is_no_host(labels, ending) else domain


def _is_no_host(labels: str, ending: str) -> bool:
    found = _NO_HOST.match(labels)
    # 163.com is a host, main@2.py is none
    return bool(found) and (not found[0][:-1].isdigit() or ending in _FILE_ENDINGS)


def _is_somebody(address: str) -> bool:
    try:
        number = ipaddress.IPv4Address(address)
    except ValueError:  # a part above 255 or with a leading zero
        return False
    return not any(number in network for network in _NOBODY)


def _global_ipv6(address: str) -> bool:
    try:
        number = ipaddress.IPv6Address(address)
    except ValueError:  # a time, a MAC address, two `::`
        return False
    inner = number.ipv4_mapped
    if number in _TRANSLATED:
        inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
    return _is_somebody(str(inner)) if inner else number in _GLOBAL_UNICAST


def _is_part(plain: str, start: int) -> bool:
    """Whether what begins here goes on with an address or indexes something, as `rows[2000::2]`."""
    before = plain[max(0, start - 24) : start]
    if _INDEXED.search(before):
        return True
    joined = _BEFORE_COLON.search(before)
    assert joined  # it may be empty
    return _ADDRESS_BEGUN.fullmatch(joined[0]) is not None
