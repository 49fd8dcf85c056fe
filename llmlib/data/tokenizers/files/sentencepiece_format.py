"""Reading a SentencePiece `.model` file: a protocol buffer of which few fields matter.

The file holds the pieces with their scores and kinds, what the trainer was told, and how text is
normalized. The last is a table of replacements in a double-array trie: one array of 32-bit units
in which following a byte is one exclusive or.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE = 1, 2


@dataclass(frozen=True)
class ModelFile:
    """What a model file says."""

    pieces: list[tuple[str, float, int]]
    """Spelling, score (single precision) and kind of each id."""

    model_type: int = UNIGRAM
    """Or `BPE`."""

    byte_fallback: bool = False
    """Spell unknown characters in bytes."""

    unknown_surface: str = " \u2047 "
    """What `decode` writes for an unknown character."""

    space_as_suffix: bool = False
    """The dummy space goes to the end."""

    dummy_space: bool = True
    """Put a space at the beginning of every text."""

    squeeze_spaces: bool = True
    """Drop spaces at both ends, and all but one of each run."""

    escape_spaces: bool = True
    """Write spaces as U+2581."""

    replacements: Mapping[str, str] = field(default_factory=dict)
    """What characters and sequences of them become in normalization."""


def parse_model(data: bytes) -> ModelFile:
    """Read the content of a `.model` file.

    Raises:
        ValueError: If it is cut short, no such file, or of a type other than unigram and BPE.

    References:
        The fields are those of `sentencepiece_model.proto`, published with the library.
    """
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, bytes | int] = {}
    normalizer: dict[int, bytes | int] = {}
    try:
        for number, value in _fields(data):
            if number == 1 and isinstance(value, bytes):
                piece = dict(_fields(value))
                pieces.append((_text(piece[1]), _float(piece.get(2, b"\0" * 4)), _kind(piece)))
            elif number == 2 and isinstance(value, bytes):
                trainer = dict(_fields(value))
            elif number == 3 and isinstance(value, bytes):
                normalizer = dict(_fields(value))
            elif number == 5 and isinstance(value, bytes) and dict(_fields(value)).get(2):
                raise ValueError("the model rewrites decoded text, which is not supported")
        table = normalizer.get(2, b"")
        replacements = _read_charsmap(table) if isinstance(table, bytes) else {}
    except (IndexError, KeyError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(f"this is no SentencePiece model, or is cut short: {error}") from error
    if not pieces:
        raise ValueError("this is no SentencePiece model: it holds no pieces")
    model_type = trainer.get(3, UNIGRAM)
    if model_type not in (UNIGRAM, BPE):
        raise ValueError(
            f"the model is of type {model_type}; only unigram (1) and BPE (2) are read"
        )
    surface = trainer.get(44)
    return ModelFile(
        pieces,
        int(model_type),
        byte_fallback=bool(trainer.get(35, 0)),
        unknown_surface=" \u2047 " if surface is None else _text(surface),
        space_as_suffix=bool(trainer.get(24, 0)),
        dummy_space=bool(normalizer.get(3, 1)),
        squeeze_spaces=bool(normalizer.get(4, 1)),
        escape_spaces=bool(normalizer.get(5, 1)),
        replacements=replacements,
    )


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values of a message's fields: a variable-length integer, or raw bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"this is no SentencePiece model: a field of wire type {wire}")
        if at + length > len(data):
            raise IndexError(f"a field of {length} bytes at {at} ends behind the file")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _text(value: bytes | int) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _float(value: bytes | int) -> float:
    assert isinstance(value, bytes)
    return struct.unpack("<f", value)[0]


def _kind(piece: Mapping[int, bytes | int]) -> int:
    kind = piece.get(3, NORMAL)
    assert isinstance(kind, int)
    return kind


@lru_cache(maxsize=4)  # models share the few tables that the library comes with
def _read_charsmap(data: bytes) -> dict[str, str]:
    """Unfold the trie of replacements into a dictionary, all entries of one length at a time."""
    if not data:
        return {}
    (size,) = struct.unpack_from("<I", data)
    units = np.frombuffer(data, dtype="<u4", count=size // 4, offset=4).astype(np.int64)
    values = data[4 + size :]
    table: dict[str, str] = {}
    nodes, keys = np.array([_offset(units[:1])[0]]), [b""]
    while nodes.size:
        found = [_children(units, nodes[at : at + 4096]) for at in range(0, nodes.size, 4096)]
        parent = np.concatenate([at * 4096 + p for at, (p, _, _) in enumerate(found)])
        byte, place = (np.concatenate([part[i] for part in found]) for i in (1, 2))
        unit = units[place]
        nodes = place ^ _offset(unit)
        keys = [keys[p] + bytes([b]) for p, b in zip(parent.tolist(), byte.tolist(), strict=True)]
        for i in np.flatnonzero((unit >> 8) & 1).tolist():
            start = int(units[nodes[i]]) & 0x7FFFFFFF
            table[keys[i].decode()] = values[start : values.index(b"\0", start)].decode()
    return table


def _children(units: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which node has a child by which byte, and where in the array the child stands."""
    every = np.arange(256)
    children = nodes[:, None] ^ every  # (nodes, bytes)
    inside = children < units.size
    labels = units[np.where(inside, children, 0)] & 0x800000FF
    parent, byte = np.nonzero(inside & (labels == every) & (every > 0))
    return parent, byte, children[parent, byte]


def _offset(units: np.ndarray) -> np.ndarray:
    return (units >> 10) << ((units & (1 << 9)) >> 6)
