"""Where the time of one training step goes, by kinds of operations, from PyTorch's profiler."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch.profiler import ProfilerActivity, profile

KernelKind = Literal["matrix products", "attention", "element-wise", "optimizer", "other"]

_PRODUCT = re.compile(r"(b?add|badd)?b?m[mv](_dtype)?_?$|addr_?$|dot$|_?mkldnn_linear.*")
_ATTENTION = re.compile(r".*scaled_dot_product.*(flash|efficient|cudnn|cpu).*")
# Passes over memory that torch does not mark as pointwise: sums, copies, look-ups.
_PASSES = re.compile(
    r"sum|mean|amax|amin|max|cumsum|linalg_vector_norm|linalg_vecdot|norm|_?(log_)?softmax.*"
    r"|native_layer_norm.*|_fused_rms_norm.*|copy_|fill_|zero_|cat|stack|gather|index_select"
    r"|scatter_add_|index_add_|index_put_|embedding_dense_backward|nll_loss_.*|_foreach_.*"
    r"|_fused_.*"
)


@dataclass(frozen=True, kw_only=True)
class StepProfile:
    """The time of one step and its kernels, by kind and by operation."""

    seconds: dict[KernelKind, float]
    """Each kind's own time; what an operation calls counts there."""
    calls: dict[KernelKind, int]
    """Kernels that ran: calls that compute or move numbers by themselves. Of `other`, none."""
    operations: dict[str, float]
    """Own seconds of each operation and Python function, the longest first."""

    @property
    def shares(self) -> dict[KernelKind, float]:
        """Each kind's part of the whole; zero where nothing ran."""
        total = sum(self.seconds.values())
        return {kind: value / total if total else 0.0 for kind, value in self.seconds.items()}

    @property
    def kernels(self) -> int:
        """Kernels of all kinds."""
        return sum(self.calls.values())

    def table(self) -> str:
        """Return a line a kind: its share of the time, its milliseconds, its kernels."""
        lines = [f"{'kind':16} {'share':>6} {'ms':>8} {'kernels':>8}"]
        for kind, share in sorted(self.shares.items(), key=lambda item: -item[1]):
            lines.append(
                f"{kind:16} {share:6.1%} {1000 * self.seconds[kind]:8.2f} {self.calls[kind]:8}"
            )
        return "\n".join(lines)


def profile_step(
    step: Callable[[], object], *, warm_up: int = 1, trace: Path | None = None
) -> StepProfile:
    """Run a training step under PyTorch's profiler and sort its time by kinds of operations.

    Products outside the attention kernel are `matrix products`; all else that passes over numbers
    is `element-wise`, sums and copies among it; what runs in an optimizer's `step` is `optimizer`,
    whatever it is; `other` is the rest: Python, automatic differentiation, allocations, views. The
    profiler itself takes some microseconds a call, which makes `other` look larger than it is.

    Args:
        warm_up: Steps before it that are not measured.
        trace: Where to write the timeline, JSON for https://ui.perfetto.dev or chrome://tracing.

    Example:
        >>> x = torch.ones(64, 64)
        >>> found = profile_step(lambda: (x @ x).relu())
        >>> found.calls["matrix products"], found.calls["element-wise"]
        (1, 1)
    """
    for _ in range(warm_up):
        step()
    profiler = profile(activities=[ProfilerActivity.CPU])
    with _quiet():
        profiler.start()
    try:
        step()
    finally:
        with _quiet():
            profiler.stop()
    if trace is not None:
        profiler.export_chrome_trace(str(trace))
    seconds: dict[KernelKind, float] = dict.fromkeys(get_args(KernelKind), 0.0)
    calls: dict[KernelKind, int] = dict.fromkeys(get_args(KernelKind), 0)
    operations: dict[str, float] = {}
    for event in profiler.events() or []:
        kind = "optimizer" if _in_optimizer(event) else kind_of_operation(event.name)
        own = event.self_cpu_time_total / 1e6
        seconds[kind] += own
        calls[kind] += _is_kernel(event)
        operations[event.name] = operations.get(event.name, 0.0) + own
    by_time = sorted(operations.items(), key=lambda item: -item[1])
    return StepProfile(seconds=seconds, calls=calls, operations=dict(by_time))


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what the profiler's C++ library notes on the process's standard error."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as sink:
        os.dup2(sink.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def kind_of_operation(name: str) -> KernelKind:
    """Tell the kind of an operation by the name that PyTorch's profiler gives it.

    Example:
        >>> kind_of_operation("aten::addmm"), kind_of_operation("aten::mul_")
        ('matrix products', 'element-wise')
    """
    if not name.startswith("aten::"):
        return "other"
    name = name.removeprefix("aten::")
    if _ATTENTION.fullmatch(name):
        return "attention"
    if _PRODUCT.fullmatch(name):
        return "matrix products"
    return "element-wise" if _PASSES.fullmatch(name) or _is_pointwise(name) else "other"


def _is_pointwise(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, o).tags for o in packet.overloads())


def _in_optimizer(event: Any) -> bool:
    while event is not None:
        if event.name.startswith("Optimizer.step"):
            return True
        event = event.cpu_parent
    return False


def _is_kernel(event: Any) -> bool:
    """Tell whether an event does the work itself, rather than an operation that it calls."""
    inside = [kind_of_operation(child.name) for child in event.cpu_children]
    return kind_of_operation(event.name) != "other" and all(kind == "other" for kind in inside)
