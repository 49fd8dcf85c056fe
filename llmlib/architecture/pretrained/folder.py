"""Reading the safetensors files of a folder, one or many."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.pretrained.tensor_source import TensorSource
from llmlib.core.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def remove_other_weights(folder: Path) -> None:
    """Remove the index and the parts of an earlier model, which would be read instead of a file."""
    (folder / INDEX).unlink(missing_ok=True)
    for file in folder.iterdir():
        if _SHARD.fullmatch(file.name):
            file.unlink()


class SafetensorsFolder(TensorSource):
    """The tensors of a folder: `model.safetensors`, or what its index lists.

    Pickled weights (`pytorch_model.bin`) are not read: unpickling runs code from the file.

    Raises:
        ValueError: If there are no safetensors, or a file is missing, damaged or cut short.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self._index()
        self._file_of: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for file in sorted({*index.values()} or {SINGLE}):
            self._read_shapes(file)
        missing = sorted(name for name in index if self._file_of.get(name) != index[name])
        if missing:
            raise ValueError(f"the index names tensors that its files do not hold: {missing[:5]}")

    def _index(self) -> dict[str, str]:
        """Read which file holds each tensor; nothing where one file holds all."""
        index, has_single = self.folder / INDEX, (self.folder / SINGLE).exists()
        listed = read_json(index).get("weight_map", {}) if index.exists() else {}
        # A name from a file must not lead out of the folder.
        if index.exists() and (not listed or any(Path(n).name != n for n in listed.values())):
            raise ValueError(f"{index} does not list the files of its folder")
        if not listed and not has_single:
            raise ValueError(
                f"{self.folder} holds neither {SINGLE} nor its index; pickled weights "
                "(.bin) are not read, convert them with transformers' save_pretrained"
            )
        others = {*listed.values()} - {SINGLE}
        if not others or not has_single:
            return listed
        if any((self.folder / file).exists() for file in others):
            raise ValueError(
                f"{self.folder} holds two models, {SINGLE} and the files that {INDEX} lists: "
                "remove the older one"
            )
        return {}  # of an earlier model, whose files are gone

    def _read_shapes(self, file: str) -> None:
        with self._open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                if name in self._shapes:
                    raise ValueError(f"{name} stands in {self._file_of[name]} and in {file}")
                self._shapes[name] = tuple(tensors.get_slice(name).get_shape())
                self._file_of[name] = file

    def _open(self, file: str) -> Any:
        path = self.folder / file
        try:
            return safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ValueError(f"{path} is missing, damaged or cut short: {error}") from error

    @property
    @override
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes

    @override
    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return a tensor, or some of its rows, in the file's type.

        Raises:
            ValueError: If its type is not one of floating-point numbers.
        """
        # Opened anew each time: pages of the file that were read leave memory with the mapping.
        with self._open(self._file_of[name]) as tensors:
            tensor = tensors.get_slice(name)[start:stop]
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            raise ValueError(f"{name} has the type {tensor.dtype}, which is not supported")
        return tensor
