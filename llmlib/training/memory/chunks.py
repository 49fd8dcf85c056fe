"""Training a model that is larger than the device: equal chunks that come when they are used."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typing_extensions import override

from llmlib.training.memory.offload import Group, only_group

Policy = Literal["next use", "last use"]
Roles = ("parameter", "gradient", "mean", "square")
_ALIGNED = 16  # numbers: 64 bytes, where torch's own allocations begin


def lay_out(sizes: Sequence[int], chunk: int) -> list[list[int]]:
    """Fill chunks of so many numbers with tensors in their order, and return each chunk's tensors.

    Raises:
        ValueError: If there is no tensor, or one is larger than a chunk.

    Example:
        >>> lay_out([16, 32, 48, 16], chunk=64)
        [[0, 1], [2, 3]]
    """
    if not sizes:
        raise ValueError("there is no tensor to lay out: give some that need a gradient")
    if max(map(_room, sizes)) > chunk:
        raise ValueError(f"a tensor of {max(sizes):,} numbers does not fit a chunk of {chunk:,}")
    chunks: list[list[int]] = []
    left = 0
    for index, size in enumerate(sizes):
        if not chunks or _room(size) > left:
            chunks.append([])
            left = chunk
        chunks[-1].append(index)
        left -= _room(size)
    return chunks


def used_share(sizes: Sequence[int], chunk: int) -> float:
    """Return the share of the chunks' room that tensors fill: what is left over is lost.

    Example:
        >>> used_share([16, 32, 48, 16], chunk=64)
        0.875
    """
    return sum(sizes) / (len(lay_out(sizes, chunk)) * chunk)


def _room(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


class _Chunk:
    """A piece of memory on the device, on the host, or nowhere while all its numbers are zero."""

    def __init__(self, n_bytes: int, device: torch.device) -> None:
        self.n_bytes = n_bytes
        self.storage = torch.UntypedStorage(n_bytes, device=device)
        self.host: torch.UntypedStorage | None = None

    @property
    def is_here(self) -> bool:
        return self.storage.nbytes() > 0

    def view(self, offset: int, like: Tensor) -> Tensor:
        """Return a tensor in the storage, which stays valid while the storage is empty."""
        flat = torch.empty(0, dtype=torch.float32, device=self.storage.device)
        return flat.set_(self.storage, offset, like.shape)  # pyright: ignore[reportCallIssue]

    def fetch(self) -> int:
        """Come to the device; return the bytes that moved."""
        # Through the storage: what the backward pass keeps must not count this as a change.
        self.storage.resize_(self.n_bytes)
        if self.host is None:
            self.storage.fill_(0)  # pyright: ignore[reportAttributeAccessIssue]
            return 0
        self.storage.copy_(self.host)
        self.host = None
        return self.n_bytes

    def evict(self) -> int:
        """Leave the device; return the bytes that moved."""
        self.host = torch.UntypedStorage(self.n_bytes)
        self.host.copy_(self.storage)
        self.storage.resize_(0)
        return self.n_bytes

    def clear(self) -> None:
        """Become zero, which takes no memory."""
        self.host = None
        self.storage.resize_(0)


class ChunkedMemory(TorchDispatchMode):
    r"""Trains a float32 model by AdamW with so many bytes of it on the device at a time.

    Parameters, gradients and AdamW's two means lie in chunks of one size, in the order of the
    model's layers, so that the four chunks that an update needs hold the same parameters. Before
    each operation the chunks that it reads or writes are brought to the device; where there is no
    room, others leave. The first step notes when each chunk is used. Every step is like the first,
    so from then on the one leaves whose next use is furthest away: no policy fetches less often.

    Use it as a context and train inside: an evicted parameter has no memory that an operation
    outside could read. When the context ends, parameters are plain tensors again.

    On a machine without an accelerator the device is a counted part of the same memory: what is
    measured is that the count never exceeds the budget, and how many bytes would have to move.

    PatrickStar keeps float16 parameters, whose chunks their gradients take over, and float32
    copies beside the means: 14 bytes a parameter where this takes 16. It also leaves room for the
    activations, measured in the first step; here the budget is the chunks' alone.

    Args:
        chunk: Numbers in a chunk; at least the largest tensor's.
        budget: Bytes of chunks on the device; room for four chunks at least.
        make_optimizer: Builds torch's AdamW from parameter groups, as `adamw_from_groups` does.
        groups: The groups; default: all parameters in one.
        policy: What leaves: the chunk with the furthest next use, or the oldest last use.

    Attributes:
        peak_bytes: Most bytes of chunks that were on the device at once.
        moved_bytes: Bytes that moved between device and host in each step, both ways.

    Raises:
        ValueError: If a tensor does not fit a chunk, or an operation's chunks not the budget; if a
            parameter is in no group or not in float32, or none needs a gradient.

    References:
        Fang et al. (2021), PatrickStar, sections 5 to 8; Belady (1966), A study of replacement
        algorithms for a virtual-storage computer (the policy, there called MIN).
    """

    def __init__(
        self,
        model: nn.Module,
        make_optimizer: Callable[[list[Group]], torch.optim.AdamW],
        *,
        chunk: int,
        budget: int,
        groups: list[Group] | None = None,
        policy: Policy = "next use",
    ) -> None:
        super().__init__()
        self.budget, self.policy = budget, policy
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if policy not in get_args(Policy):
            raise ValueError(f"policy={policy!r} is unknown: one of {get_args(Policy)}")
        if others := sorted({str(p.dtype) for p in self.parameters} - {str(torch.float32)}):
            raise ValueError(
                f"chunks hold float32, not {others}: call model.float(), and multiply in 16 bits "
                "under autocast"
            )
        sizes = [p.numel() for p in self.parameters]
        self.layout = lay_out(sizes, chunk)
        self.used_share = used_share(sizes, chunk)
        if budget < len(Roles) * 4 * chunk:
            raise ValueError(
                f"an update needs {len(Roles)} chunks of {4 * chunk:,} bytes at once: a budget of "
                f"{budget:,} bytes is too small, or the chunks too large"
            )
        self.chunks: list[_Chunk] = []
        self._by_storage: dict[int, int] = {}
        self._moment = 0
        self._noted: list[frozenset[int]] = []
        self._uses: defaultdict[int, list[int]] | None = None
        self._last_use: defaultdict[int, int] = defaultdict(int)
        self._moving = 0
        self.peak_bytes, self.moved_bytes = 0, list[int]()
        groups = groups or [{"params": self.parameters}]
        owner = {p: group for group in groups for p in group["params"]}
        named = model.named_parameters()
        if alone := [name for name, p in named if p.requires_grad and p not in owner]:
            raise ValueError(f"{alone} are in no group: give each parameter one, or freeze it")
        pieces = [
            {**group, "params": [p for p in members if owner[p] is group]}
            for members in ([self.parameters[i] for i in chunk] for chunk in self.layout)
            for group in groups
        ]
        self.optimizer = make_optimizer([piece for piece in pieces if piece["params"]])
        for indices in self.layout:
            self._move_in(indices, 4 * chunk)

    def _move_in(self, indices: list[int], n_bytes: int) -> None:
        """Give some parameters, their gradients and means a chunk each."""
        offset = 0
        four = [_Chunk(n_bytes, self.parameters[0].device) for _ in Roles]
        for parameter in (self.parameters[i] for i in indices):
            own, gradient, mean, square = (chunk.view(offset, parameter) for chunk in four)
            own.copy_(parameter.detach())
            parameter.data, parameter.grad = own, gradient
            step = torch.zeros((), device=parameter.device)
            means = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
            self.optimizer.state[parameter] = means
            offset += _room(parameter.numel())
        for chunk in four:
            self._by_storage[chunk.storage._cdata] = len(self.chunks)
            self.chunks.append(chunk)
        four[0].evict()
        for zeros in four[1:]:
            zeros.clear()

    @property
    def device_bytes(self) -> int:
        """Bytes of chunks on the device now, from the storages themselves."""
        return sum(chunk.storage.nbytes() for chunk in self.chunks)

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters, chunk after chunk, and clear the gradients; ends a step."""
        for group in self.optimizer.param_groups:
            with only_group(self.optimizer, group):
                self.optimizer.step()
        for chunk in self.chunks[Roles.index("gradient") :: len(Roles)]:
            chunk.clear()
        if self._uses is None:
            self._uses = defaultdict(list)
            for moment, numbers in enumerate(self._noted):
                for number in numbers:
                    self._uses[number].append(moment)
        self._last_use = defaultdict(int, {n: t - self._moment for n, t in self._last_use.items()})
        self._moment = 0
        self.moved_bytes.append(self._moving)
        self._moving = 0

    @override
    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        found = {
            self._by_storage.get(leaf.untyped_storage()._cdata, -1)
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor)
        }
        if numbers := frozenset(found - {-1}):
            self._bring(numbers, func)
        return func(*args, **kwargs)

    def _bring(self, numbers: frozenset[int], func: Any) -> None:
        """Have these chunks on the device, whatever must leave for them."""
        needed = sum(self.chunks[number].n_bytes for number in numbers)
        if needed > self.budget:
            raise ValueError(
                f"{func} works on {needed:,} bytes of chunks at once, the budget is "
                f"{self.budget:,}: raise it, or do the work tensor by tensor"
            )
        for number in sorted(numbers):
            chunk = self.chunks[number]
            if chunk.is_here:
                continue
            while self.device_bytes + chunk.n_bytes > self.budget:
                self._moving += self.chunks[self._leaving(numbers)].evict()
            self._moving += chunk.fetch()
        self.peak_bytes = max(self.peak_bytes, self.device_bytes)
        if self._uses is None:
            self._noted.append(numbers)
        for number in numbers:
            self._last_use[number] = self._moment
        self._moment += 1

    def _leaving(self, needed: frozenset[int]) -> int:
        """Choose what leaves the device: never what the present operation needs."""
        here = [n for n, c in enumerate(self.chunks) if c.is_here and n not in needed]
        uses = self._uses
        if self.policy == "last use" or uses is None:
            return min(here, key=lambda number: self._last_use[number])
        return max(here, key=lambda number: self._next_use(uses[number]))

    def _next_use(self, moments: list[int]) -> int:
        """Return when a chunk is used next, in the following step where not in this one."""
        after = bisect_right(moments, self._moment)
        if after < len(moments):
            return moments[after]
        return len(self._noted) + (moments[0] if moments else len(self._noted))

    @override
    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        with torch.no_grad():
            for chunk in self.chunks:
                if not chunk.is_here:
                    chunk.fetch()
            for parameter in self.parameters:
                parameter.data, parameter.grad = parameter.detach().clone(), None
                state = self.optimizer.state[parameter]
                self.optimizer.state[parameter] = {k: v.clone() for k, v in state.items()}
        self.chunks.clear()
        self._by_storage.clear()
