"""Reading GGUF: a header of named values, an index of tensors, then their bytes.

All numbers are little-endian. Behind the four letters `GGUF` come the version, the number of
tensors and of named values; then the values, each with its type; then for every tensor its name,
its shape (fastest axis first), its type and where its bytes start; then, aligned, the bytes.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.pretrained.dequantize import QUANTIZATIONS, dequantize
from llmlib.architecture.pretrained.tensor_source import TensorSource

_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_LARGEST = 1 << 28  # no published header has more entries; a damaged count must not fill memory


@dataclass(frozen=True)
class TensorEntry:
    """One line of a GGUF file's index."""

    name: str
    shape: tuple[int, ...]
    """As torch writes it, the fastest axis last."""
    kind: int
    """Number of its type in the format, a key of `QUANTIZATIONS`."""
    start: int
    """Byte of the file where it begins."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file."""
        quantization = QUANTIZATIONS[self.kind]
        return math.prod(self.shape) // quantization.block * quantization.nbytes


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise EOFError
        return data

    def numbers(self, code: str) -> tuple[Any, ...]:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))

    def scalar(self, code: str) -> Any:
        return self.numbers(code)[0]

    def count(self) -> int:
        number = self.scalar("Q")
        if number > _LARGEST:
            raise ValueError(f"a count of {number} is damage")
        return number

    def text(self) -> str:
        return self.take(self.count()).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            item, count = self.scalar("I"), self.count()
            if item in _SCALARS:
                return list(self.numbers(f"{count}{_SCALARS[item]}"))
            return [self.value(item) for _ in range(count)]
        if kind not in _SCALARS:
            raise ValueError(f"a value has the unknown type {kind}")
        return self.scalar(_SCALARS[kind])


class GGUFFile(TensorSource):
    """A GGUF file: its named values at once, its tensors when they are asked for.

    Attributes:
        metadata: The named values.
        tensors: The index, by name.

    Raises:
        ValueError: If the file is not GGUF, of an unknown version, damaged, cut short or holds a
            tensor of a type that is not supported.

    References:
        The format's specification, docs/gguf.md of the ggml project (version 3).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with self.path.open("rb") as file:
            try:
                self.metadata, self.tensors = _read_header(_Cursor(file))
            except EOFError as error:
                raise ValueError(
                    f"{self.path.name} is cut short within its header: fetch it again"
                ) from error
            except (ValueError, struct.error) as error:
                raise ValueError(f"{self.path.name} cannot be read as GGUF: {error}") from error
        size = self.path.stat().st_size
        for entry in self.tensors.values():
            end = entry.start + entry.nbytes
            if end > size:
                raise ValueError(
                    f"{self.path.name} is cut short: tensor {entry.name!r} ends at byte {end:,} "
                    f"and the file at {size:,}. Fetch it again"
                )

    @property
    @override
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.tensors.items()}

    def raw(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return the bytes of some of a tensor's rows as they lie in the file, one line a row."""
        entry = self.tensors[name]
        rows = entry.shape[0] if len(entry.shape) > 1 else 1
        stop = rows if stop is None else min(stop, rows)
        row_bytes = entry.nbytes // rows
        with self.path.open("rb") as file:
            file.seek(entry.start + start * row_bytes)
            data = np.fromfile(file, dtype=np.uint8, count=(stop - start) * row_bytes)
        return data.reshape(stop - start, row_bytes)

    @override
    def read(self, name: str, start: int = 0, stop: int | None = None) -> Float[Tensor, "*shape"]:
        """Return a tensor, or some of its rows, as float32."""
        entry = self.tensors[name]
        values = dequantize(self.raw(name, start, stop), entry.kind)  # [rows, row length]
        return torch.from_numpy(values.reshape(-1, *entry.shape[1:]))


def _read_header(cursor: _Cursor) -> tuple[Mapping[str, Any], Mapping[str, TensorEntry]]:
    if cursor.take(4) != b"GGUF":
        raise ValueError("it does not begin with the letters GGUF")
    version = cursor.scalar("I")
    if version not in (2, 3):
        raise ValueError(f"its version is {version}; versions 2 and 3 are supported")
    n_tensors, n_values = cursor.count(), cursor.count()
    metadata: dict[str, Any] = {}
    for _ in range(n_values):
        key = cursor.text()
        if key in metadata:
            raise ValueError(f"the value {key!r} stands there twice")
        metadata[key] = cursor.value(cursor.scalar("I"))
    index = []
    for _ in range(n_tensors):
        name = cursor.text()
        shape = tuple(cursor.scalar("Q") for _ in range(cursor.scalar("I")))
        kind, offset = cursor.scalar("I"), cursor.scalar("Q")
        if kind not in QUANTIZATIONS:
            known = ", ".join(quantization.name for quantization in QUANTIZATIONS.values())
            raise ValueError(f"tensor {name!r} has type {kind}, which is not one of {known}")
        if not shape or shape[0] % QUANTIZATIONS[kind].block:
            raise ValueError(f"the rows of tensor {name!r}, shape {shape}, are not whole blocks")
        index.append((name, shape[::-1], kind, offset))
    names = {name for name, *_ in index}
    if len(names) < len(index):
        raise ValueError("a tensor's name stands there twice")
    alignment = metadata.get("general.alignment", 32)
    data = -(-cursor.file.tell() // alignment) * alignment
    return metadata, {
        name: TensorEntry(name, shape, kind, data + offset) for name, shape, kind, offset in index
    }
