"""Processes that send each other tensors: what they send is counted, and when it went is noted."""

import time
from collections import Counter
from dataclasses import dataclass, field

import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Event:
    """A stretch of one process's time, for a timeline."""

    name: str
    start: float
    """Seconds on the process's own clock."""
    end: float
    sent_bytes: int = 0


@dataclass
class Communicator:
    """This process's place in a group, and the one way by which the book's code sends tensors.

    Everything here is built from sending to one process and receiving from one, so that the bytes
    that a technique moves are counted where they leave, not computed from its formula.
    """

    group: dist.ProcessGroup | None = None
    """The processes; None: all."""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes that this process sent, by what they were sent for."""
    events: list[Event] = field(default_factory=list)
    """Each exchange, in order."""

    def __post_init__(self) -> None:
        self._under_way: list[tuple[dist.Work, Tensor]] = []
        self.rank, self.size = dist.get_rank(self.group), dist.get_world_size(self.group)

    @property
    def next(self) -> int:
        """The rank after this one in the ring."""
        return (self.rank + 1) % self.size

    @property
    def previous(self) -> int:
        """The rank before this one in the ring."""
        return (self.rank - 1) % self.size

    @property
    def sent_bytes(self) -> int:
        """All bytes that this process sent."""
        return self.sent.total()

    def exchange(self, name: str, sends: dict[int, Tensor], receives: dict[int, Tensor]) -> None:
        """Send tensors to some ranks and fill others from some, all at once; wait for both.

        Args:
            name: What the bytes are counted as.
            sends: What goes to each rank, contiguous.
            receives: What is filled from each rank, contiguous, of the sender's shape and type.
        """
        began = time.perf_counter()
        requests = [
            *(dist.irecv(into, self._everywhere(r), self.group) for r, into in receives.items()),
            *(dist.isend(what, self._everywhere(r), self.group) for r, what in sends.items()),
        ]
        for request in requests:
            assert request is not None
            request.wait()
        size = sum(what.nbytes for what in sends.values())
        self.sent[name] += size
        self.events.append(Event(name, began, time.perf_counter(), size))

    def send(self, name: str, tensor: Tensor, to: int, tag: int) -> None:
        """Send a tensor without waiting until it is taken; `flush` waits for all."""
        tensor = tensor.contiguous()
        request = dist.isend(tensor, self._everywhere(to), self.group, tag)
        assert request is not None
        self._under_way.append((request, tensor))  # the memory must live as long
        self.sent[name] += tensor.nbytes

    def receive(self, name: str, into: Tensor, source: int, tag: int) -> Tensor:
        """Wait for what another rank sent under a tag, fill a tensor with it and return it."""
        began = time.perf_counter()
        dist.recv(into, self._everywhere(source), self.group, tag)
        self.events.append(Event(f"wait for {name}", began, time.perf_counter()))
        return into

    def flush(self) -> None:
        """Wait until all that was sent has been taken."""
        for request, _ in self._under_way:
            request.wait()
        self._under_way.clear()

    def _everywhere(self, rank: int) -> int:
        """Turn a rank of this group into one of all processes."""
        return rank if self.group is None else dist.get_global_rank(self.group, rank)
