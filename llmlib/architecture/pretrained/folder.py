"""Reading the safetensors files of a folder, one or many."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from typing_extensions import override

from llmlib.architecture.pretrained.tensor_source import TensorSource
from llmlib.core.files import read_json


class SafetensorsFolder(TensorSource):
    """The tensors of a folder: `model.safetensors`, or what its index lists.

    Pickled weights (`pytorch_model.bin`) are not read: unpickling runs code from the file.

    Raises:
        ValueError: If there are no safetensors, or a file is missing, damaged or cut short.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._file_of = self._find()
        self._shapes: dict[str, tuple[int, ...]] = {}
        for file in sorted({*self._file_of.values()} or {"model.safetensors"}):
            self._read_shapes(file)
        missing = sorted(self._file_of.keys() - self._shapes.keys())
        if missing:
            raise ValueError(f"the index names tensors that no file holds: {missing[:5]}")

    def _find(self) -> dict[str, str]:
        index = self.folder / "model.safetensors.index.json"
        if index.exists():
            listed = read_json(index).get("weight_map", {})
            # A name from a file must not lead out of the folder.
            if not listed or any(Path(name).name != name for name in listed.values()):
                raise ValueError(f"{index} does not list the files of its folder")
            return listed
        if not (self.folder / "model.safetensors").exists():
            raise ValueError(
                f"{self.folder} holds neither model.safetensors nor its index; pickled weights "
                "(.bin) are not read, convert them with transformers' save_pretrained"
            )
        return {}

    def _read_shapes(self, file: str) -> None:
        with self._open(file) as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                self._shapes[name] = tuple(tensors.get_slice(name).get_shape())
                self._file_of.setdefault(name, file)

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
