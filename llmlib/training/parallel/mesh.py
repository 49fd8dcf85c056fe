"""Processes in a grid: each axis is a way to split the work, and says who talks to whom."""

from dataclasses import dataclass
from math import prod

import torch.distributed as dist

from llmlib.training.parallel.communicator import Communicator


@dataclass(frozen=True)
class Mesh:
    """Axes and their lengths; neighbours on the last axis have neighbouring ranks.

    The last axis talks most: put tensor parallelism there, so that its groups share a machine.

    Example:
        >>> mesh = Mesh({"data": 8, "pipeline": 12, "tensor": 4})  # BLOOM's 384 GPUs
        >>> mesh.size, mesh.place(4), mesh.group("pipeline", 5)[:3]
        (384, {'data': 0, 'pipeline': 1, 'tensor': 0}, [1, 5, 9])

    References:
        Narayanan et al. (2021), Efficient Large-Scale Language Model Training on GPU Clusters Using
        Megatron-LM, section 3; Le Scao et al. (2022), BLOOM, section 3.4.
    """

    axes: dict[str, int]

    def __post_init__(self) -> None:
        if not self.axes or any(length < 1 for length in self.axes.values()):
            raise ValueError(f"axes={self.axes}: give each axis one process or more")

    @property
    def size(self) -> int:
        """Number of processes."""
        return prod(self.axes.values())

    def place(self, rank: int) -> dict[str, int]:
        """Return where a rank stands on each axis."""
        found: dict[str, int] = {}
        for axis, length in reversed(self.axes.items()):
            rank, found[axis] = divmod(rank, length)
        return {axis: found[axis] for axis in self.axes}

    def rank(self, place: dict[str, int]) -> int:
        """Return who stands at a place."""
        rank = 0
        for axis, length in self.axes.items():
            rank = rank * length + place[axis]
        return rank

    def group(self, axis: str, rank: int) -> list[int]:
        """Return who talks with a rank along an axis, in their order on it."""
        place = self.place(rank)
        return [self.rank(place | {axis: i}) for i in range(self.axes[axis])]

    def groups(self, axis: str) -> list[list[int]]:
        """Return all groups of an axis."""
        found = {tuple(self.group(axis, rank)) for rank in range(self.size)}
        return [list(group) for group in sorted(found)]

    def communicators(self) -> dict[str, Communicator]:
        """Return this process's communicator for each axis; every process must call this.

        Raises:
            ValueError: When there are more or fewer processes than places.
        """
        if dist.get_world_size() != self.size:
            raise ValueError(f"{dist.get_world_size()} processes for {self.size} places")
        found: dict[str, Communicator] = {}
        for axis in self.axes:
            for ranks in self.groups(axis):  # all processes make all groups, in one order
                group = dist.new_group(ranks)
                if dist.get_rank() in ranks:
                    assert isinstance(group, dist.ProcessGroup)
                    found[axis] = Communicator(group)
        return found
