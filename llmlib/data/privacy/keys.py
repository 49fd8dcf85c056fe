"""Keys, tokens and passwords: by the prefixes of their issuers, by context, by their disorder."""

import math
import re
from collections import Counter
from collections.abc import Iterator

from llmlib.data.privacy.folding import fold
from llmlib.data.privacy.spans import Span, spans_of

# Published formats of issuers; each alternative begins with letters that no word begins with.
_ISSUED = re.compile(
    r"(?<![\w-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}"
    r"|github_pat_\w{22,255}|glpat-[\w-]{20,64}|hf_[A-Za-z0-9]{30,40}|AIza[\w-]{35}"
    r"|sk-(?:[a-z]{2,8}-)?[\w-]{20,200}|(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,99}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,250}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,250}"
    r"|eyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,2000})(?![\w-])",
    re.ASCII,
)
# One of these is in every match: looking for them is many times faster than the pattern.
_PREFIXES = ("AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_")
_PREFIXES += ("AIza", "sk-", "sk_", "rk_", "xox", "npm_", "pypi-", "eyJ")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----[A-Za-z0-9+/=\s]{16,8192}"
    r"-----END (?:[A-Z]{2,12} ){0,2}PRIVATE KEY-----"
)
_PASSWORDS = ("password", "passwd", "passphrase", "pwd", "passwort", "kennwort", "contraseña")
_PASSWORDS += ("mot de passe", "senha", "пароль", "密码", "密碼", "口令", "パスワード", "비밀번호")
_WORDS = ("key", "token", "secret", "bearer", *_PASSWORDS)
_NAMED = re.compile(
    r"(?:api|access|secret|auth|private)[_ -]?(?:key|token|secret)|token|secret|bearer|"
    + "|".join(_PASSWORDS),
    re.IGNORECASE,
)
# A value ends where a script without spaces goes on.
_ASSIGNED = re.compile(
    r"[\"']?(?:\s{0,3}(?:[:=]|=>|(?:is|ist|es|est)\s|[是为為は는은])\s{0,3}|\s)[\"'`]?"
    r"([^\s\"'`,;()<>{}\[\]\u0E00-\u0E7F\u1100-\u11FF\u2E80-\uFFEF]{8,200})"
    r"(?![A-Za-z0-9_(\[{])",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"[a-z][a-z0-9+.-]{1,15}://[^\s:/@]{1,64}:([^\s:/@]{4,128})@", re.IGNORECASE)
_BARE = re.compile(r"(?<![\w+/=.-])[A-Za-z0-9_+/-]{32,256}={0,2}(?![\w+/=-])", re.ASCII)
_NOT_REAL = re.compile(
    r"example|your|xxx|change.?me|placeholder|dummy|insert|redacted|\*{3}|\.\.\.|\$|environ",
    re.IGNORECASE,
)


def bits_per_character(text: str) -> float:
    r"""Measure the disorder of a string: the entropy of its own character frequencies.

    $H = -\sum_c p_c \log_2 p_c$, at most $\log_2$ of the length.

    Example:
        >>> bits_per_character("aaaa"), bits_per_character("abcd")
        (0.0, 2.0)
    """
    shares = [count / len(text) for count in Counter(text).values()]
    return 0.0 - sum(share * math.log2(share) for share in shares)


def find_keys(text: str) -> Iterator[Span]:
    """Find secrets that give access to something.

    Four rules: formats that issuers publish; private keys in PEM; values named as a key, token or
    password that are disordered enough; and, without any name, strings of 32 characters and more
    that change between capitals, small letters and digits as only random strings do. Hashes in
    hexadecimal are left alone unless they are named as a secret.

    Spans may overlap.

    Example:
        >>> [span.text for span in find_keys("api_key = 'q7Zp1xW4mN8bT2vK'; token = next(tokens)")]
        ['q7Zp1xW4mN8bT2vK']
    """
    if any(prefix in text for prefix in _PREFIXES):
        yield from spans_of("key", _ISSUED.finditer(text))
    if "PRIVATE KEY-----" in text:
        yield from spans_of("key", _PRIVATE_KEY.finditer(text))
    if "://" in text:
        real = (match for match in _IN_URL.finditer(text) if not _NOT_REAL.search(match[1]))
        yield from spans_of("key", real, 1)
    small, plain = text.lower(), fold(text)
    for name in _NAMED.finditer(plain) if any(word in small for word in _WORDS) else ():
        match = _ASSIGNED.match(plain, name.end())
        if match is None:
            continue
        value = match[1].rstrip(".:!?")
        bare_space = plain[name.end() : match.start(1)].strip(" \"'`") == ""
        if _is_secret(name[0].lower(), value, bare_space):
            start, stop = match.start(1), match.start(1) + len(value)
            yield Span(start, stop, "key", text[start:stop])
    yield from spans_of("key", (match for match in _BARE.finditer(text) if _is_random(match[0])))


def _is_secret(name: str, value: str, bare_space: bool) -> bool:
    """Whether a named value is disordered enough; a bare space, as in a sentence, asks for more."""
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    if not (letters and digits) or _NOT_REAL.search(value):
        return False
    if name in _PASSWORDS:
        return not bare_space and len(value) >= 8
    return len(value) >= (20 if bare_space else 16) and bits_per_character(value) >= 3.2


def _is_random(value: str) -> bool:
    """Whether a string without a name looks drawn at random from letters and digits."""
    if _NOT_REAL.search(value):
        return False
    classes = "".join("A" if c.isupper() else "a" if c.islower() else "0" for c in value)
    if not {"A", "a", "0"} <= set(classes) or not any(map(str.isdigit, value)):
        return False
    # Random strings change their kind at 62% of the steps, words joined by capitals below 45%.
    changes = sum(a != b for a, b in zip(classes, classes[1:], strict=False))
    return changes >= 0.45 * (len(value) - 1) and bits_per_character(value) >= 4.0
