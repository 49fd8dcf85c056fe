"""Token streams on disk, read through the operating system's page cache.

A stream is a folder with flat little-endian files of 16- or 32-bit ids, one file with the places
where documents start, and `index.json`, which names them with their lengths and hashes. The files
carry their hash in their name and the index is replaced last, so an interrupted write leaves the
stream that was there before it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmlib.core.files import atomic_path, atomic_write, read_json
from llmlib.data.stream.packing import check_range

_FORMAT = "llmlib token shards"
_VERSION = 1
_INDEX = "index.json"


class TokenShards:
    """A stream of tokens in files, memory-mapped: opening it reads only the index.

    Attributes:
        tokenizer_sha256: Hash of the tokenizer that made the ids, "" if not given.
        corpus_sha256: Hash of the texts, "" if not given.

    Raises:
        ValueError: If the folder holds no such stream, or a file of it is missing or cut short.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        index = _read_index(self.folder / _INDEX)
        self.n_tokens: int = index["n_tokens"]
        self.n_documents: int = index["n_documents"]
        self.dtype = np.dtype(index["dtype"])
        self.end_of_text: int = index["end_of_text"]
        self.tokenizer_sha256: str = index["tokenizer_sha256"]
        self.corpus_sha256: str = index["corpus_sha256"]
        self._files: list[dict] = [*index["shards"], index["documents"]]
        *self._shards, starts = [
            self._map(entry, dtype)
            for entry, dtype in zip(
                self._files, [self.dtype] * len(index["shards"]) + [np.dtype("<u8")], strict=True
            )
        ]
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self.starts: np.ndarray = np.asarray(starts).astype(np.int64)

    def _map(self, entry: dict, dtype: np.dtype) -> np.ndarray:
        path = self.folder / entry["file"]
        expected = entry["length"] * dtype.itemsize
        found = path.stat().st_size if path.exists() else 0
        if found != expected:
            raise ValueError(
                f"{path} is cut short or missing: {found} bytes of {expected}. Write the shards "
                "again."
            )
        return np.memmap(path, dtype=dtype, mode="r")

    def read(self, begin: int, end: int) -> np.ndarray:
        """Return the tokens from `begin` up to `end`, across files where need be."""
        check_range(begin, end, self.n_tokens)
        parts = []
        shard = int(np.searchsorted(self._ends, begin, side="right"))
        while begin < end:
            offset = int(self._ends[shard]) - len(self._shards[shard])
            stop = min(end, int(self._ends[shard]))
            parts.append(np.asarray(self._shards[shard][begin - offset : stop - offset]))
            begin, shard = stop, shard + 1
        match parts:
            case []:
                return np.empty(0, dtype=self.dtype)
            case [part]:
                return part
        return np.concatenate(parts)

    def verify(self) -> None:
        """Read every file and refuse one whose hash is no longer the index's."""
        for entry in self._files:
            path = self.folder / entry["file"]
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != entry["sha256"]:
                raise ValueError(
                    f"{path} has changed since it was written. Write the shards again."
                )


def write_shards(
    folder: str | Path,
    documents: Iterable[np.ndarray | Sequence[int]],
    *,
    vocab_size: int,
    end_of_text: int,
    tokenizer_sha256: str = "",
    corpus_sha256: str = "",
    shard_tokens: int = 1 << 27,
) -> TokenShards:
    """Write documents to disk as one stream, each followed by the end-of-text token.

    Args:
        folder: Where to write; made if missing. A stream that is there already stays readable
            until the new one is whole, then its files are removed.
        documents: The token ids of each document, read once; empty ones are left out.
        vocab_size: Ids are below this; up to 65,536 they take two bytes each, else four.
        tokenizer_sha256: `ByteBPE.sha256`, so that a reader can check it.

    Raises:
        ValueError: If an id is not below `vocab_size`, or every document is empty.
    """
    if not 0 <= end_of_text < vocab_size <= 1 << 32:
        raise ValueError(f"end_of_text={end_of_text} is not an id below vocab_size={vocab_size}")
    if shard_tokens < 1:
        raise ValueError(f"shard_tokens={shard_tokens} must be at least 1")
    folder = Path(folder)
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    lengths: list[int] = []
    stream = _separated(documents, vocab_size, end_of_text, dtype, lengths)
    shards = [
        _write_array(folder, "tokens", number, array)
        for number, array in enumerate(_rebatch(stream, shard_tokens))
    ]
    if not shards:
        raise ValueError("nothing to write: every document is empty")
    ends = np.cumsum(lengths, dtype="<u8")
    starts = np.concatenate([np.zeros(1, dtype="<u8"), ends[:-1]])
    index = {
        "format": _FORMAT,
        "version": _VERSION,
        "dtype": dtype.str,
        "n_tokens": int(ends[-1]),
        "n_documents": len(lengths),
        "vocab_size": vocab_size,
        "end_of_text": end_of_text,
        "tokenizer_sha256": tokenizer_sha256,
        "corpus_sha256": corpus_sha256,
        "shards": shards,
        "documents": _write_array(folder, "documents", 0, starts),
    }
    atomic_write(folder / _INDEX, json.dumps(index, indent=1) + "\n")
    kept = {entry["file"] for entry in [*shards, index["documents"]]}
    for path in [*folder.glob("tokens-*.bin"), *folder.glob("documents-*.bin")]:
        if path.name not in kept:
            path.unlink()
    return TokenShards(folder)


def _separated(
    documents: Iterable[np.ndarray | Sequence[int]],
    vocab_size: int,
    end_of_text: int,
    dtype: np.dtype,
    lengths: list[int],
) -> Iterator[np.ndarray]:
    """Yield documents and separators in the type of the shards; note the lengths on the way."""
    separator = np.array([end_of_text], dtype=dtype)
    for number, document in enumerate(documents):
        array = np.asarray(document)
        if not len(array):
            continue
        if not 0 <= array.min() <= array.max() < vocab_size:
            raise ValueError(
                f"document {number} holds id {array.max()}, which is not below "
                f"vocab_size={vocab_size}: was it encoded with another tokenizer?"
            )
        lengths.append(len(array) + 1)
        yield array.astype(dtype)
        yield separator


def _rebatch(arrays: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield the same numbers in arrays of exactly `size`, the last one shorter."""
    waiting: list[np.ndarray] = []
    room = size
    for array in arrays:
        while len(array) >= room:
            yield np.concatenate([*waiting, array[:room]])
            array, waiting, room = array[room:], [], size
        if len(array):
            waiting.append(array)
            room -= len(array)
    if waiting:
        yield np.concatenate(waiting)


def _write_array(folder: Path, kind: str, number: int, array: np.ndarray) -> dict:
    data = array.tobytes()
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{kind}-{number:05d}-{sha256[:16]}.bin"
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(data)
    return {"file": name, "length": len(array), "sha256": sha256}


def _read_index(path: Path) -> dict[str, Any]:
    index = read_json(path)
    if index.get("format") != _FORMAT:
        raise ValueError(f"{path} is not an index of token shards")
    if index.get("version") != _VERSION:
        raise ValueError(
            f"{path} has version {index.get('version')}; this release reads {_VERSION}"
        )
    return index
