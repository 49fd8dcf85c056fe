"""From a web page to its text.

The extraction itself is Resiliparse's: it parses what browsers parse, leaves out menus, notices and
comments when asked to, and works at tens of megabytes a second on one core. Li et al. (2024,
DataComp-LM, section 4.2) compared extractors by the models trained on their text: Resiliparse and
trafilatura did about equally well and better than the plain text of Common Crawl, and Resiliparse
was eight times faster. It also needs three small packages where trafilatura needs ten.
"""

import re

from llmlib.data.corpora.document import Document

_CHARSET = re.compile(rb"<meta[^>]{0,256}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
# The longer marks first: one of UTF-32 begins as one of UTF-16.
BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def decode_html(data: bytes) -> str:
    """Decode a page by its byte order mark, else as UTF-8, else by the encoding that it declares.

    Nothing is guessed: a page in an encoding that it does not name is refused.

    Raises:
        ValueError: If it is not UTF-8 and declares no encoding, an unknown or a wrong one.

    Example:
        >>> decode_html(b"<meta charset=latin-1><p>caf" + bytes([0xE9]))[-4:]
        'café'
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return _decoded(data, encoding)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        declared = _CHARSET.search(data[:4096])
        if declared is None or declared[1].lower() in (b"utf-8", b"utf8"):
            raise ValueError(
                f"not UTF-8 (byte 0x{data[error.start]:02x} at {error.start}), and no other "
                "encoding is declared"
            ) from error
        return _decoded(data, declared[1].decode("ascii"))


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except (LookupError, UnicodeDecodeError) as error:
        raise ValueError(f"not in its declared encoding: {error}") from error


def html_document(html: str, source: str, *, main_content: bool = True) -> Document:
    """Extract the visible text of a page.

    With `main_content` what surrounds the article is left out: menus, notices, footers, comments.

    Returns:
        The text, with line breaks where blocks end; empty if the page has none. `meta["title"]` is
        the page's title, if it has one.

    Raises:
        ImportError: If the `data` extra is not installed.

    Example:
        >>> page = "<title>Tea</title><nav>Home</nav><p>Boil &amp; wait.</p><script>x</script>"
        >>> document = html_document(page, "tea.html")
        >>> document.text, document.meta
        ('Boil & wait.', {'title': 'Tea'})
    """
    try:
        from resiliparse.extract.html2text import extract_plain_text
        from resiliparse.parse.html import HTMLTree
    except ImportError as error:
        raise ImportError(
            "reading HTML needs the package `resiliparse`: install this project with its `data` "
            "extra"
        ) from error
    tree = HTMLTree.parse(html)
    text = extract_plain_text(
        tree,
        preserve_formatting=True,
        main_content=main_content,
        comments=False,
        alt_texts=False,
    )
    title = " ".join((tree.title or "").split())
    return Document(text=text.strip(), source=source, meta={"title": title} if title else {})
