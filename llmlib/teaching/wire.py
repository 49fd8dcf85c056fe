"""Values and messages between the grader and the process that holds a student's code.

A message is a JSON text and a safetensors block for its tensors, each behind its length. Nothing is
unpickled, so a message from the student's side can be wrong but cannot run anything here.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections import deque
from collections.abc import Callable, Iterator, ValuesView
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

HEADER = struct.Struct(">II")
MAX_MESSAGE = 64 * 2**20
_MAX_ITEMS = 100_000


class BadMessageError(ValueError):
    """A message is not one of ours, or too large."""


class WireEncoder:
    """Turn values into JSON, and keep their tensors for `pack`.

    Args:
        export: Called for what is neither data nor a container; returns the JSON that stands for
            it on the other side, or raises TypeError.
    """

    def __init__(self, export: Callable[[Any], dict[str, Any]]) -> None:
        self.export = export
        self.tensors: list[Tensor] = []

    def __call__(self, value: Any) -> Any:
        """Encode one value."""
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, Tensor):
            return {"tensor": self._keep(value), "grad": value.requires_grad}
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "biufc":  # torch has no arrays of text
                return self(value.tolist())
            return {"array": self._keep(torch.from_numpy(np.asarray(value, order="C")))}
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, dict):
            return {"dict": [[self(key), self(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple, set, frozenset)):
            kind = next((k for k in (list, tuple) if isinstance(value, k)), set)
            return {kind.__name__: [self(item) for item in value]}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, (range, deque, ValuesView, Iterator)):
            return {"list": [self(item) for item in itertools.islice(value, _MAX_ITEMS)]}
        return self.export(value)

    def _keep(self, tensor: Tensor) -> int:
        # Cloned, because safetensors refuses two tensors that share memory.
        self.tensors.append(tensor.detach().cpu().contiguous().clone())
        return len(self.tensors) - 1

    def pack(self, message: Any) -> bytes:
        """Frame a message together with the tensors encoded so far.

        Raises:
            BadMessageError: If it is larger than the other side accepts.
        """
        text = json.dumps(message).encode()
        block = safetensors.torch.save({str(i): t for i, t in enumerate(self.tensors)})
        if len(text) + len(block) > MAX_MESSAGE:
            raise BadMessageError(f"a value of more than {MAX_MESSAGE >> 20} MiB cannot be sent")
        return HEADER.pack(len(text), len(block)) + text + block


def unpack(data: bytes, sizes: tuple[int, int]) -> tuple[Any, list[Tensor]]:
    """Read a message's JSON and tensors from its body; the header says how long each is.

    Raises:
        BadMessageError: If either is malformed.
    """
    try:
        message = json.loads(data[: sizes[0]])
        found = safetensors.torch.load(data[sizes[0] :])
        return message, [found[str(i)] for i in range(len(found))]
    except Exception as error:  # safetensors has its own; json may even recurse too deep
        raise BadMessageError(f"malformed: {type(error).__name__}") from error


def decode(value: Any, tensors: list[Tensor], adopt: Callable[[dict[str, Any]], Any]) -> Any:
    """Turn what `WireEncoder` made back into a value.

    Args:
        adopt: Called for what the other side exported.

    Raises:
        BadMessageError: If it is not what `WireEncoder` makes.
    """
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise BadMessageError("a bare list")
        return value

    def inner(item: Any) -> Any:
        return decode(item, tensors, adopt)

    try:
        match value:
            case {"tensor": index, "grad": grad}:
                return tensors[index].requires_grad_(bool(grad))
            case {"array": index}:
                return tensors[index].numpy()
            case {"dict": pairs}:
                return {inner(key): inner(item) for key, item in pairs}
            case {"list": items}:
                return [inner(item) for item in items]
            case {"tuple": items}:
                return tuple(inner(item) for item in items)
            case {"set": items}:
                return {inner(item) for item in items}
            case {"bytes": text}:
                return bytes.fromhex(text)
            case {"dtype": name} if isinstance(getattr(torch, name), torch.dtype):
                return getattr(torch, name)
    except (TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise BadMessageError(f"malformed: {error}") from error
    return adopt(value)
