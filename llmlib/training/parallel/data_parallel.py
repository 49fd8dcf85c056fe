"""Data parallelism: the whole model on each process, gradients added up while they are made."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from llmlib.core.batch import Batch, LossFn, count_targets
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.ring import ring_all_reduce


@dataclass
class _Bucket:
    parameters: list[nn.Parameter]
    flat: Tensor
    """The gradients of all of them, which are views of it."""
    missing: set[nn.Parameter] = field(default_factory=set)
    reduced: "Future[None] | None" = None


class DataParallel:
    r"""Adds up the gradients of a model over processes, bucket by bucket, during the backward pass.

    With $n_p$ targets on process p the gradient of the mean over all is
    $\sum_p \tfrac{n_p}{n} g_p$: each process weights its loss by its share, and the ring adds.
    Gradients lie in buckets, the last layer's first, as the backward pass makes them. A full bucket
    goes round the ring in a thread of its own while the layers below still compute.

    Args:
        model: The same weights on every process (`broadcast_parameters`).
        bucket_bytes: Size of a bucket; DDP's default is 25 MB.

    References:
        Li et al. (2020), PyTorch Distributed: Experiences on Accelerating Data Parallel Training,
        section 3.2.
    """

    def __init__(
        self, model: nn.Module, comm: Communicator, *, bucket_bytes: int = 25 * 2**20
    ) -> None:
        if bucket_bytes < 1:
            raise ValueError(f"bucket_bytes={bucket_bytes} must be at least 1")
        self.model, self.comm = model, comm
        trained = [p for p in model.parameters() if p.requires_grad]
        self.buckets = [_make_bucket(ps) for ps in _fill(reversed(trained), bucket_bytes)]
        self._bucket_of = {p: bucket for bucket in self.buckets for p in bucket.parameters}
        # One thread: the ring's rounds of two buckets must not meet in another order elsewhere.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gradients")
        self._hooks = [p.register_post_accumulate_grad_hook(self._ready) for p in trained]
        self._accumulating = False

    def backward(self, loss_fn: LossFn, batches: list[Batch]) -> Tensor:
        """Compute the gradient of the mean loss over all processes' targets; return that loss.

        Only the last of several micro-batches communicates.

        Raises:
            ValueError: When no target of any process counts.
        """
        shares = target_shares(self.comm, batches)
        self._clear()
        loss = torch.zeros(1, dtype=torch.float64)
        for i, (batch, share) in enumerate(zip(batches, shares, strict=True)):
            self._accumulating = i < len(batches) - 1
            mine = loss_fn(self.model, batch) * share
            mine.backward()
            loss += mine.detach()
        self._wait()
        ring_all_reduce(self.comm, loss)
        return loss[0]

    def close(self) -> None:
        """Take the hooks off the model and end the thread."""
        for hook in self._hooks:
            hook.remove()
        self._thread.shutdown()

    def _clear(self) -> None:
        for bucket in self.buckets:
            bucket.flat.zero_()
            bucket.missing, bucket.reduced = set(bucket.parameters), None
            for parameter, view in zip(bucket.parameters, _views(bucket), strict=True):
                parameter.grad = view

    def _ready(self, parameter: Tensor) -> None:
        if self._accumulating:
            return
        bucket = self._bucket_of[parameter]  # pyright: ignore[reportArgumentType]
        bucket.missing.discard(parameter)  # pyright: ignore[reportArgumentType]
        self._send_full_ones()

    def _send_full_ones(self) -> None:
        """Start the next buckets in order: every process must send them in the same one."""
        for bucket in self.buckets:
            if bucket.reduced is not None:
                continue
            if bucket.missing:
                return
            bucket.reduced = self._thread.submit(ring_all_reduce, self.comm, bucket.flat)

    def _wait(self) -> None:
        for bucket in self.buckets:
            bucket.missing.clear()  # parameters that took no part have a gradient of zero
        self._send_full_ones()
        for bucket in self.buckets:
            assert bucket.reduced is not None
            bucket.reduced.result()


def target_shares(comm: Communicator, batches: list[Batch]) -> list[float]:
    """Return the share of all processes' targets that each of this one's micro-batches holds.

    Raises:
        ValueError: When no target of any process counts.
    """
    counts = [count_targets(batch) for batch in batches]
    total = torch.tensor([float(sum(counts))], dtype=torch.float64)
    ring_all_reduce(comm, total)
    if not total:
        raise ValueError("no target of any process counts: look at the batches")
    return [count / total.item() for count in counts]


@torch.no_grad()
def broadcast_parameters(model: nn.Module, comm: Communicator) -> None:
    """Give every process the first one's parameters and buffers, passed on along the ring.

    Without it, replicas that were initialized differently train on, each from weights of its own,
    with the same gradients: nothing looks wrong but the loss of the evaluated one.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if comm.rank > 0:
            came = torch.empty_like(tensor)
            comm.exchange("broadcast", {}, {comm.previous: came})
            tensor.copy_(came)
        if comm.next > 0:
            comm.exchange("broadcast", {comm.next: tensor.detach().contiguous()}, {})


def _fill(parameters: Iterator[nn.Parameter], size: int) -> Iterator[list[nn.Parameter]]:
    """Cut parameters into runs of one type that reach a size in bytes."""
    run: list[nn.Parameter] = []
    for parameter in parameters:
        if run and (sum(p.nbytes for p in run) >= size or parameter.dtype != run[0].dtype):
            yield run
            run = []
        run.append(parameter)
    if run:
        yield run


def _make_bucket(parameters: list[nn.Parameter]) -> _Bucket:
    return _Bucket(parameters, torch.cat([torch.zeros_like(p).flatten() for p in parameters]))


def _views(bucket: _Bucket) -> list[Tensor]:
    pieces = bucket.flat.split([p.numel() for p in bucket.parameters])
    return [piece.view_as(p) for piece, p in zip(pieces, bucket.parameters, strict=True)]
