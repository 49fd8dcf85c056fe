"""Pipeline parallelism: each process has some layers, micro-batches flow through all of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, autograd, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch, count_targets
from llmlib.training.memory.chunked_loss import linear_cross_entropy
from llmlib.training.parallel.communicator import Communicator, Event
from llmlib.training.parallel.pipelines.orders import PipelineKind, StageWork, pipeline_orders
from llmlib.training.parallel.ring import ring_all_reduce

Later = list[Callable[[], None]]


@dataclass
class _Kept:
    """What a stage keeps of a micro-batch between its forward and its backward pass."""

    came: Tensor | None
    out: Tensor


class PipelineParallel:
    r"""Trains a decoder whose layers lie on P processes, in any of `pipeline_orders`' orders.

    The layers are cut into $P v$ runs of equal length; stage s holds the runs $s, s + P, \dots$,
    its v chunks. The first run has the embedding in front, the last one norm and output matrix
    behind. A micro-batch sends $BTD$ numbers between neighbours, forward and backward. A tied
    embedding lies on the first and on the last stage; both add the other's gradient to their own.

    Args:
        model: Whole, the same on every process; what belongs to other stages is taken out of it.

    Raises:
        ValueError: When the layers are not so many runs of equal length.

    References:
        Huang et al. (2019), GPipe; Narayanan et al. (2021), Megatron-LM on GPU clusters, section
        2.2; Qi et al. (2024), Zero Bubble Pipeline Parallelism.
    """

    def __init__(
        self, model: Transformer, comm: Communicator, kind: PipelineKind = "1f1b", chunks: int = 1
    ) -> None:
        runs, layers = comm.size * chunks, len(model.blocks)
        if layers % runs:
            raise ValueError(f"{layers} layers are not {runs} runs of equal length")
        self.model, self.comm, self.chunks = model, comm, chunks
        self.kind: PipelineKind = kind
        self.is_first, self.is_last = comm.rank == 0, comm.rank == comm.size - 1
        each = layers // runs
        self.runs = [
            list(model.blocks[place * each : (place + 1) * each])
            for place in range(comm.rank, runs, comm.size)
        ]
        model.blocks = nn.ModuleList(block for run in self.runs for block in run)
        self._now: Later = []
        if kind == "zero_bubble":
            for block in model.blocks:
                _put_off_weight_gradients(block, lambda: self._now)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return this stage's parameters by their names in the whole model."""
        each = len(self.model.blocks) // self.chunks
        own: dict[str, nn.Parameter] = {}
        for name, parameter in self.model.named_parameters():
            if name.startswith("blocks."):
                _, index, rest = name.split(".", 2)
                chunk, inside = divmod(int(index), each)
                place = chunk * self.comm.size + self.comm.rank
                own[f"blocks.{place * each + inside}.{rest}"] = parameter
            elif self._has(name):
                own[name] = parameter
        return own

    def backward(self, micro_batches: list[Batch], shares: list[float] | None = None) -> Tensor:
        """Compute this stage's gradients of the mean loss over all targets; return that loss.

        Every process has all micro-batches; only shapes, tokens and targets of them are used.

        Args:
            shares: What each micro-batch's mean counts in the loss; default: its share of the
                targets.

        Raises:
            ValueError: When no target counts, or the order does not fit so many micro-batches.
        """
        if shares is None:
            counts = [count_targets(batch) for batch in micro_batches]
            if not sum(counts):
                raise ValueError("no target counts: look at the batches")
            shares = [count / sum(counts) for count in counts]
        orders = pipeline_orders(self.kind, self.comm.size, len(micro_batches), self.chunks)
        kept: dict[tuple[int, int], _Kept] = {}
        put_off: dict[int, Later] = {}
        loss = torch.zeros(1, dtype=torch.float64)
        for work in orders[self.comm.rank]:
            key, batch = (work.micro_batch, work.chunk), micro_batches[work.micro_batch]
            began = time.perf_counter()
            match work.part:
                case "F":
                    kept[key] = self._forward(work, batch, shares[work.micro_batch])
                    if self._is_end(work):
                        loss += kept[key].out.detach()
                case "B":
                    self._now = put_off.setdefault(work.micro_batch, [])
                    self._backward(work, kept.pop(key))
                case "W":
                    for job in put_off.pop(work.micro_batch):
                        job()
            self.comm.events.append(Event(str(work), began, time.perf_counter()))
        self.comm.flush()
        self._add_tied_gradients()
        ring_all_reduce(self.comm, loss)
        return loss[0]

    def _forward(self, work: StageWork, batch: Batch, share: float) -> _Kept:
        model, came = self.model, None
        context = model.context(batch["inputs"])
        if self._is_start(work):
            x = model.embed(batch["inputs"], context)
        else:
            weight = next(model.parameters())
            came = weight.new_empty(*self._stream_shape(batch))
            self.comm.receive("activations", came, self.comm.previous, self._tag(work))
            x = came.requires_grad_()
        for block in self.runs[work.chunk]:
            x = block(x, context, None)
        if self._is_end(work):
            return _Kept(came, self._loss(model.norm(x), batch) * share)
        to = StageWork("F", work.micro_batch, work.chunk + self.is_last)
        self.comm.send("activations", x.detach(), self.comm.next, self._tag(to))
        return _Kept(came, x)

    def _backward(self, work: StageWork, kept: _Kept) -> None:
        gradient = None
        if not self._is_end(work):
            gradient = torch.empty_like(kept.out)
            self.comm.receive("gradients", gradient, self.comm.next, self._tag(work))
        autograd.backward(kept.out, gradient)
        if kept.came is not None:
            assert kept.came.grad is not None
            to = StageWork("B", work.micro_batch, work.chunk - self.is_first)
            self.comm.send("gradients", kept.came.grad, self.comm.previous, self._tag(to))

    def _stream_shape(self, batch: Batch) -> tuple[int, ...]:
        """Return the shape of what a stage gets of a micro-batch."""
        return (*batch["inputs"].shape, self.model.config.d_model)

    def _loss(self, hidden: Float[Tensor, "B T D"], batch: Batch) -> Float[Tensor, ""]:
        return linear_cross_entropy(hidden, self.model.output_weight, batch["targets"])

    def _is_start(self, work: StageWork) -> bool:
        return self.is_first and work.chunk == 0

    def _is_end(self, work: StageWork) -> bool:
        return self.is_last and work.chunk == self.chunks - 1

    def _tag(self, work: StageWork) -> int:
        return 2 * (work.micro_batch * self.chunks + work.chunk) + (work.part == "B")

    def _has(self, name: str) -> bool:
        """Say whether a parameter outside the layers belongs to this stage."""
        if name.startswith(("norm.", "head.")):
            return self.is_last
        is_output = name == "embedding.weight" and self.model.head is None
        return self.is_first or (self.is_last and is_output)

    def _add_tied_gradients(self) -> None:
        """Add up the gradients of an embedding that is the output matrix on another stage."""
        is_shared = self.model.head is None and self.comm.size > 1
        if not is_shared or not (self.is_first or self.is_last):
            return
        other = self.comm.size - 1 if self.is_first else 0
        mine = self.model.embedding.weight.grad
        assert mine is not None
        came = torch.empty_like(mine)
        self.comm.exchange("tied gradients", {other: mine.contiguous()}, {other: came})
        mine += came


class _DeferredLinear(autograd.Function):
    """A product whose backward pass makes the input's gradient and puts the weight's off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, jobs: Any) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.jobs = jobs
        return F.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, bias = ctx.saved_tensors

        def make_weight_gradient() -> None:
            rows, columns = grad.flatten(0, -2), x.flatten(0, -2)
            _accumulate(weight, rows.T @ columns)
            if bias is not None:
                _accumulate(bias, rows.sum(0))

        ctx.jobs().append(make_weight_gradient)
        return grad @ weight, None, None, None


class DeferredLinear(nn.Module):
    """A linear layer that hands the making of its weight's gradient to a list of jobs.

    Hooks on the weight's gradient do not run when it is made: autograd never sees it.
    """

    def __init__(self, linear: nn.Linear, jobs: Callable[[], Later]) -> None:
        super().__init__()
        self.weight, self.bias, self.jobs = linear.weight, linear.bias, jobs

    def forward(self, x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows F"]:
        """Multiply, as `nn.Linear` does."""
        return cast("Tensor", _DeferredLinear.apply(x, self.weight, self.bias, self.jobs))


@torch.no_grad()
def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _put_off_weight_gradients(module: nn.Module, jobs: Callable[[], Later]) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                setattr(parent, name, DeferredLinear(child, jobs))
