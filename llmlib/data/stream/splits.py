"""Train and held-out parts that share no module and hardly any text.

Documentation repeats itself within a module: methods that overload each other, parameters
described twice. A random split of documents would test what was learnt by heart, so whole modules
are held out, and of those the documents whose paragraphs also stand in the training part are left
out. `split_by_module` does it in memory, `split_files` with files of any size.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llmlib.core.processes.workers import Workers
from llmlib.data.cleaning.scale.parallel import BLOCK_CHARACTERS
from llmlib.data.corpora.document import (
    Document,
    corpus_bytes,
    corpus_sha256,
    iterate_documents,
    save_documents,
    text_blocks,
)
from llmlib.data.corpora.units import text_bytes, with_line_feeds


@dataclass(frozen=True, kw_only=True)
class Split:
    """A corpus in two parts."""

    train: list[Document]
    held_out: list[Document]
    left_out: list[Document]
    """Documents of held-out modules that stand mostly in the training part."""
    shared: float
    """Share of the held-out bytes that lies in paragraphs which also stand in the training part,
    after leaving out."""


def split_by_module(
    documents: Sequence[Document],
    held_out: float = 0.05,
    seed: int = 0,
    *,
    max_shared: float = 0.5,
) -> Split:
    """Split a corpus by module; deduplicate it first.

    Modules are ranked by a hash of seed and name, and the first ones are held out until they hold
    the share asked for, so that adding modules moves few of the others.

    Args:
        documents: The corpus; `meta["module"]` names each document's module.
        held_out: Share of the bytes to hold out, between 0 and 1.
        max_shared: Held-out documents of which a larger share of bytes stands in paragraphs of
            the training part are left out; 1 keeps all.

    Raises:
        ValueError: If no held-out document remains, or `held_out_modules` refuses.

    Example:
        >>> corpus = [
        ...     Document(text=f"Node {i}.", source="x", meta={"module": f"m{i}"}) for i in range(9)
        ... ]
        >>> split = split_by_module(corpus, held_out=0.2)
        >>> len(split.train), len(split.held_out)
        (7, 2)
    """
    chosen = held_out_modules(documents, held_out, seed)
    train = [document for document in documents if document.meta["module"] not in chosen]
    candidates = [document for document in documents if document.meta["module"] in chosen]
    kept, left_out, shared = _leave_out(candidates, paragraphs_of(train), max_shared)
    return Split(train=train, held_out=kept, left_out=left_out, shared=shared)


def held_out_modules(
    documents: Iterable[Document], held_out: float = 0.05, seed: int = 0
) -> set[str]:
    """Choose modules that hold a share of the bytes; memory holds a name and a number each.

    Raises:
        ValueError: If a document has no module, or there are fewer than two.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out} must lie between 0 and 1")
    sizes: dict[str, int] = {}
    for document in documents:
        if "module" not in document.meta:
            raise ValueError(f'a document from {document.source} has no meta["module"]')
        module = document.meta["module"]
        sizes[module] = sizes.get(module, 0) + document.n_bytes
    if len(sizes) < 2:
        raise ValueError(f"{len(sizes)} module cannot be split in two; give more files or texts")
    ranked = sorted(sizes, key=lambda m: hashlib.sha256(f"{seed}:{m}".encode()).digest())
    wanted = held_out * sum(sizes.values())
    chosen: set[str] = set()
    held_bytes = 0
    for module in ranked[:-1]:  # one at least stays for training
        if held_bytes >= wanted:
            break
        chosen.add(module)
        held_bytes += sizes[module]
    return chosen


@dataclass(frozen=True, kw_only=True)
class SplitSizes:
    """What `split_files` wrote."""

    train: tuple[int, int]
    """Documents and UTF-8 bytes."""
    held_out: tuple[int, int]
    left_out: int
    """Held-out documents that stand mostly in the training part, in neither file."""
    shared: float
    """As in `Split`."""


def split_files(
    corpus: str | Path,
    train: str | Path,
    held_out: str | Path,
    share: float = 0.05,
    seed: int = 0,
    *,
    max_shared: float = 0.5,
    workers: int = 1,
) -> SplitSizes:
    """Split a saved corpus into two files, the same parts as `split_by_module`.

    The corpus is read twice. Memory: the held-out part, and a name and a number for each module;
    the training part passes through. Its paragraphs are looked through in `workers` processes.
    """
    chosen = held_out_modules(iterate_documents(corpus), share, seed)
    candidates: list[Document] = []
    sizes = [0, 0]

    def training() -> Iterator[Document]:
        for document in iterate_documents(corpus):
            if document.meta["module"] in chosen:
                candidates.append(document)
                continue
            sizes[0] += 1
            sizes[1] += document.n_bytes
            yield document

    save_documents(train, training())
    wanted = paragraphs_of(candidates)
    found = known_paragraphs(iterate_documents(train), wanted, workers=workers)
    kept, left_out, shared = _leave_out(candidates, found, max_shared)
    save_documents(held_out, kept)
    return SplitSizes(
        train=(sizes[0], sizes[1]),
        held_out=(len(kept), corpus_bytes(kept)),
        left_out=len(left_out),
        shared=shared,
    )


def _leave_out(
    candidates: Sequence[Document], paragraphs: set[str], max_shared: float
) -> tuple[list[Document], list[Document], float]:
    """Divide held-out documents by what of them is known; tell what is known of those kept."""
    kept: list[Document] = []
    left_out: list[Document] = []
    for document in candidates:
        share = _shared_bytes(document, paragraphs) / max(1, document.n_bytes)
        (left_out if share > max_shared else kept).append(document)
    if not kept:
        raise ValueError(
            "no held-out document remains: each stands mostly in the training part. Deduplicate, "
            "hold out more, or raise max_shared."
        )
    return kept, left_out, known_share(kept, paragraphs)


def shared_share(
    held_out: Sequence[Document], train: Iterable[Document], *, workers: int = 1
) -> float:
    """Measure which share of a part's bytes stands, paragraph by paragraph, in another part.

    The other part may be longer than memory; `workers` processes look through it.
    """
    known = known_paragraphs(train, paragraphs_of(held_out), workers=workers)
    return known_share(held_out, known)


def known_share(held_out: Sequence[Document], known: set[str]) -> float:
    """Measure which share of a part's bytes lies in known paragraphs (see `paragraphs_of`)."""
    shared = sum(_shared_bytes(document, known) for document in held_out)
    return shared / max(1, corpus_bytes(held_out))


def paragraphs_of(documents: Iterable[Document]) -> set[str]:
    r"""Gather the different paragraphs of documents, white space reduced to single blanks.

    Example:
        >>> sorted(paragraphs_of([Document(text="one\n two\n\nthree", source="x")]))
        ['one two', 'three']
    """
    return {_key(part) for document in documents for part in _paragraphs(document.text)}


def known_paragraphs(
    documents: Iterable[Document], wanted: set[str], *, workers: int = 1
) -> set[str]:
    """Find which of the wanted paragraphs stand in documents, read lazily, some blocks at a time.

    Args:
        documents: Where to look.
        wanted: Paragraphs as `paragraphs_of` gives them; each process holds them.
        workers: Processes.
    """
    with Workers(workers, wanted) as pool:
        blocks = text_blocks(documents, BLOCK_CHARACTERS)
        return set().union(*pool.map(_known_of_block, blocks))


def _known_of_block(wanted: set[str], block: list[Document]) -> set[str]:
    return wanted & paragraphs_of(block)


def with_modules(documents: Iterable[Document]) -> Iterator[Document]:
    """Make each document without a module one of its own, so that it is split by itself.

    Example:
        >>> pages = [Document(text="A page.", source="web")]
        >>> [page.meta["module"] for page in with_modules(pages)]
        ['web#0']
    """
    for number, document in enumerate(documents):
        if "module" in document.meta:
            yield document
        else:
            module = f"{document.source}#{number}"
            yield Document(text=document.text, source=document.source, meta={"module": module})


@dataclass(frozen=True, kw_only=True)
class CorpusSize:
    """How much text a file holds, and which."""

    documents: int
    bytes: int
    """UTF-8 bytes of the texts."""
    sha256: str
    """As of `corpus_sha256`."""


def corpus_size(path: str | Path) -> CorpusSize:
    """Measure a file that `save_documents` wrote in one pass, one document at a time."""
    sizes = [0, 0]

    def counted() -> Iterator[Document]:
        for document in iterate_documents(path):
            sizes[0] += 1
            sizes[1] += document.n_bytes
            yield document

    sha256 = corpus_sha256(counted())
    return CorpusSize(documents=sizes[0], bytes=sizes[1], sha256=sha256)


def _paragraphs(text: str) -> Iterator[str]:
    yield from re.split(r"\n[ \t]*\n", with_line_feeds(text))


def _key(paragraph: str) -> str:
    return " ".join(paragraph.split())


def _shared_bytes(document: Document, paragraphs: set[str]) -> int:
    parts = _paragraphs(document.text)
    return sum(text_bytes(part) for part in parts if _key(part) in paragraphs)
