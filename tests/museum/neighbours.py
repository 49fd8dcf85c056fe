"""Processes played by threads of one process, so that a fault between them costs no launch."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

from torch import Tensor
from typing_extensions import override

from llmlib.training.parallel.communicator import Communicator

WAIT = 60
"""Seconds until a thread that hears nothing gives up."""


class Neighbour(Communicator):
    """One of several threads, which send each other tensors as processes would."""

    def __init__(self, rank: int, queues: list[list["Queue[Tensor]"]]) -> None:
        self._place, self._queues = rank, queues
        super().__init__()

    @override
    def __post_init__(self) -> None:
        self.rank, self.size = self._place, len(self._queues)

    @override
    def exchange(self, name: str, sends: dict[int, Tensor], receives: dict[int, Tensor]) -> None:
        for to, what in sends.items():
            self._queues[self.rank][to].put(what.detach().clone())
            self.sent[name] += what.nbytes
        for source, into in receives.items():
            into.copy_(self._queues[source][self.rank].get(timeout=WAIT))


def together(size: int, act: Callable[[Communicator], Any]) -> list[Any]:
    """Run a function once for each of several ranks, at the same time; return what each says."""
    queues = [[Queue[Tensor]() for _ in range(size)] for _ in range(size)]
    with ThreadPoolExecutor(size) as pool:
        started = [pool.submit(act, Neighbour(rank, queues)) for rank in range(size)]
        return [one.result() for one in started]
