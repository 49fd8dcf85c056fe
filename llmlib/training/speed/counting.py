"""A counter of what a block of code really computes and moves, operation by operation."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from llmlib.training.speed.roofline import Work

_ALLOCATES = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_OVERWRITES = {"copy_", "fill_", "zero_"}  # what they write into is not read
_GATHERS = {"embedding", "gather", "index_select"}  # they read what they write, no whole table
_SCATTERS = {"scatter_add_", "index_add_"}
_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"  # unknown to torch's own counter


class _WorkMode(TorchDispatchMode):
    def __init__(self, found: dict[str, Work]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        moved = _moved_bytes(func, name, args, kwargs, result)
        if moved:
            self.found[name] += Work(_flops(func, name, args, kwargs, result), moved)
        return result


@contextmanager
def counted_work() -> Iterator[dict[str, Work]]:
    """Count the FLOPs and bytes of the tensors that each operation in the block reads and writes.

    Products count as torch's counter counts them. Those that are added in place count too, which it
    passes over, and the products inside the fused attention kernel of processors: of the causal
    half seven instead of six, since the scores are made again on the way back. Element-wise
    operations count one FLOP a number written, whichever they are. Views move nothing. A number
    that stays in a cache from one operation to the next counts in both: these are the bytes that
    the operations ask for.

    Example:
        >>> with counted_work() as found:
        ...     y = torch.ones(2, 3) @ torch.ones(3, 5)
        ...     z = y.view(5, 2) + 1
        >>> found["mm"], found["add"].bytes
        (Work(flops=60, bytes=124), 80)
    """
    found: dict[str, Work] = defaultdict(Work)
    with _WorkMode(found):
        yield found


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _nbytes(tensors: list[Tensor]) -> int:
    """Add up the bytes in memory; what is expanded, or given twice, is there once."""
    sizes = {
        (t.untyped_storage()._cdata, t.storage_offset(), tuple(t.shape), t.stride()): (
            math.prod(n for n, step in zip(t.shape, t.stride(), strict=True) if step)
            * t.element_size()
        )
        for t in tensors
    }
    return sum(sizes.values())


def _moved_bytes(
    func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> int:
    """Return the bytes that an operation reads and writes."""
    given, made = _tensors((args, kwargs)), _tensors(result)
    if name in _ALLOCATES:
        return 0
    if name in _GATHERS or name in _SCATTERS:
        touched = made if name in _GATHERS else given[-1:]
        indices = [t for t in given if not t.is_floating_point() and not t.is_complex()]
        return (2 if name in _GATHERS else 3) * _nbytes(touched) + _nbytes(indices)
    written, overwritten = list[Tensor](), list[Tensor]()
    for place, argument in enumerate(func._schema.arguments):
        value = args[place] if place < len(args) else kwargs.get(argument.name)
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        if name == "_fused_adamw_" and argument.name in ("grads", "max_exp_avg_sqs"):
            continue  # written only where a loss scale is undone, or with amsgrad
        written += _tensors(value)
        if argument.is_out or name in _OVERWRITES:
            overwritten += _tensors(value)
    storages = {t.untyped_storage()._cdata for t in given}
    new = [t for t in made if t.untyped_storage()._cdata not in storages]
    if not written and not new and made:
        return 0  # views
    hidden = {id(t) for t in overwritten}
    read = [t for t in given if id(t) not in hidden]
    return _nbytes(read) + _nbytes(written) + _nbytes(new)


def _flops(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Return an operation's FLOPs: of products exactly, of the rest one a number."""
    packet = getattr(torch.ops.aten, name.rstrip("_"), None)  # torch knows no sums in place
    if packet in flop_registry:
        kwargs = {key: value for key, value in kwargs.items() if key != "out"}
        return int(flop_registry[packet](*args, **kwargs, out_val=result))
    if name == _ATTENTION:
        return 4 * _attended(args[0], args[1], is_causal=args[4])
    if name == _ATTENTION + "_backward":
        return 10 * _attended(args[1], args[2], is_causal=args[7])
    if torch.Tag.pointwise in func.tags:
        return sum(t.numel() for t in _tensors(result))
    return 0


def _attended(queries: Tensor, keys: Tensor, *, is_causal: bool) -> int:
    """Return the pairs of a query and a key that it may see, times the width of a head."""
    batch, heads, n_queries, width = queries.shape
    n_keys = keys.shape[2]
    pairs = n_queries * (n_queries + 1) // 2 if is_causal else n_queries * n_keys
    return batch * heads * pairs * width


def counted_step(action: Callable[[], object]) -> Work:
    """Return all that an action computes and moves.

    Example:
        >>> x = torch.ones(7)
        >>> counted_step(lambda: x + x)
        Work(flops=7, bytes=56)
    """
    with counted_work() as found:
        action()
    return sum(found.values(), Work())
