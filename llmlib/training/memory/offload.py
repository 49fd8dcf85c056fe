"""Optimizer state that lives on a disk or in the host's memory, and visits for its update."""

import errno
import mmap
import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from llmlib.training.checkpointing.named_state import AnyOptimizer
from llmlib.training.optimizers.adamw import Group

_PIECE = 1 << 20  # bytes of zeros at once


class HostMemory:
    """Keeps tensors in the memory of the host, pinned where they come from a CUDA device.

    On a machine without an accelerator that is where they are already, and nothing is saved.
    """

    def place(self, tensor: Tensor) -> Tensor:
        """Return room for a tensor of this shape and type."""
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)

    def settle(self) -> None:
        """Say that what was placed will not be read for a while: nothing to do here."""


class StateFolder:
    """Keeps tensors in memory-mapped files, one each, that live as long as this object.

    The files are not a checkpoint: they change in place, and a run that continues makes new ones
    from its checkpoint.

    Args:
        folder: An existing folder; a folder of its own is made inside.

    Raises:
        OSError: If nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix=".optimizer_state_", dir=folder))
        except OSError as error:
            raise OSError(
                error.errno,
                f"no optimizer state can be kept in {folder} ({error.strerror}): give a folder "
                "that exists and is writable",
            ) from error
        self._maps: list[mmap.mmap] = []
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def place(self, tensor: Tensor) -> Tensor:
        """Return room for a tensor of this shape and type, in a file of its size.

        Raises:
            OSError: If the disk has no room, or the folder is gone; nothing is written then.
        """
        path = self.path / f"{len(self._maps)}.bin"
        try:
            with path.open("w+b") as file:
                # A hole in a file that the disk cannot fill later would kill the process.
                for start in range(0, tensor.nbytes, _PIECE):
                    file.write(bytes(min(_PIECE, tensor.nbytes - start)))
                file.flush()
                mapped = mmap.mmap(file.fileno(), tensor.nbytes)
        except OSError as error:
            what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
            raise OSError(
                error.errno,
                f"{tensor.nbytes:,} bytes of optimizer state do not go into {self.path}: {what}; "
                "make room and continue from the last checkpoint",
            ) from error
        self._maps.append(mapped)
        return torch.frombuffer(mapped, dtype=tensor.dtype).view(tensor.shape)

    def settle(self) -> None:
        """Give the pages back to the system; the files keep what is in them."""
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)


class OffloadedOptimizer(AnyOptimizer):
    r"""Any optimizer of torch's kind, its state elsewhere but for the group that is updated.

    Beside parameters and gradients a step needs the state of one group, not of all:
    $4 P + 4 P + 8 \max_g P_g$ bytes in float32 with AdamW, instead of $16 P$. The steps are the
    optimizer's own, to the bit; they wait for copies both ways.

    Args:
        optimizer: Its state, if it has any, moves at once. Groups that are small make the peak
            small: see `split_groups`.
        store: Where the state lives between its updates.

    Raises:
        OSError: If there is no room for the state, at its first step.

    Example:
        >>> weight = torch.ones(3, requires_grad=True)
        >>> optimizer = OffloadedOptimizer(torch.optim.AdamW([weight], lr=0.1), HostMemory())
        >>> weight.grad = torch.ones(3)
        >>> optimizer.step()
        >>> optimizer.state[weight]["exp_avg"]
        tensor([0.1000, 0.1000, 0.1000])

    References:
        Ren et al. (2021), ZeRO-Offload, section 4.1; Rajbhandari et al. (2021), ZeRO-Infinity,
        sections 5.1.1 and 5.2 (the disk).
    """

    def __init__(self, optimizer: torch.optim.Optimizer, store: HostMemory | StateFolder) -> None:
        self.optimizer, self.store = optimizer, store
        self._homes: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)
        for group in self.param_groups:
            self._send_home(group)

    @property
    @override
    def param_groups(self) -> list[Group]:
        return self.optimizer.param_groups

    @property
    @override
    def state(self) -> Mapping[Tensor, Any]:
        return self.optimizer.state

    @override
    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.optimizer.state.get(parameter, {})
                for key, home in self._homes[parameter].items():
                    state[key] = home.to(parameter.device, copy=True)
            with only_group(self.optimizer, group):
                self.optimizer.step()
            self._send_home(group)

    @override
    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's own, which reads from where the state lives."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the state goes to where it lives."""
        self.optimizer.load_state_dict(state)
        for group in self.param_groups:
            self._send_home(group)

    def _send_home(self, group: Group) -> None:
        """Copy a group's state to its homes; counters stay, they are small."""
        for parameter in group["params"]:
            state = self.optimizer.state.get(parameter, {})
            homes = self._homes[parameter]
            for key, value in state.items():
                if isinstance(value, Tensor) and value.ndim and value.numel():
                    if key not in homes:
                        homes[key] = self.store.place(value)
                    homes[key] = _in_order_of(value, homes[key])
                    state[key] = homes[key].copy_(value)
        self.store.settle()


def _in_order_of(value: Tensor, home: Tensor) -> Tensor:
    """View a home column by column where a matrix is so: its products are rounded otherwise."""
    flat = home if home.is_contiguous() else home.mT
    if value.is_contiguous() or value.ndim < 2 or not value.mT.is_contiguous():
        return flat.view(value.shape)
    return flat.view(value.mT.shape).mT


@contextmanager
def only_group(optimizer: torch.optim.Optimizer, group: Group) -> Iterator[None]:
    """Let an optimizer see one of its groups alone."""
    groups, optimizer.param_groups = optimizer.param_groups, [group]
    try:
        yield
    finally:
        optimizer.param_groups = groups


def split_groups(groups: list[Group], n_numbers: int) -> list[Group]:
    """Cut groups into smaller ones of at most so many numbers, or of one parameter.

    For optimizers that update each parameter by itself; Muon's products want whole groups.

    Raises:
        ValueError: If the limit is not at least one number.

    Example:
        >>> group = {"params": [torch.ones(2), torch.ones(3), torch.ones(7)], "lr": 0.1}
        >>> [[p.numel() for p in g["params"]] for g in split_groups([group], 5)]
        [[2, 3], [7]]
    """
    if n_numbers < 1:
        raise ValueError(f"n_numbers={n_numbers} must be at least 1")
    smaller: list[Group] = []
    for group in groups:
        room = -1
        for parameter in group["params"]:
            if parameter.numel() > room:
                smaller.append({**group, "params": []})
                room = n_numbers
            smaller[-1]["params"].append(parameter)
            room = max(0, room - parameter.numel())
    return smaller
