"""What a file of weights offers, whatever its format."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class TensorSource(Protocol):
    """A file, or a folder of files, with named tensors."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor, by name, the fastest axis last."""
        ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Return a tensor's rows from `start` to before `stop`; by default, all."""
        ...
