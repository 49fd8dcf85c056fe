"""What the processes of the lesson on pipelines do; a notebook and the tests start them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import pipelining
from torch.nn import functional as F

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.parallel.communicator import Communicator, Event
from llmlib.training.parallel.pipelines.asynchronous import AsynchronousPipeline
from llmlib.training.parallel.pipelines.orders import (
    Order,
    PipelineKind,
    StagePart,
    pipeline_orders,
)
from llmlib.training.parallel.pipelines.stages import PipelineParallel

Plan = tuple[PipelineKind, int, int, Mapping[StagePart, float]]
"""An order: its kind, micro-batches, chunks, and the seconds of each part of a chunk's work."""


def take_naps(
    comm: Communicator, orders: Sequence[Order], seconds: Mapping[StagePart, float], chunks: int = 1
) -> list[Event]:
    """Play one stage's order: for each piece of work wait for a number, sleep, and send one on."""
    number, last = torch.zeros(1), comm.size * chunks - 1
    comm.events.clear()
    for work in orders[comm.rank]:
        place, began = work.chunk * comm.size + comm.rank, time.perf_counter()
        tag = 2 * (work.micro_batch * (last + 2) + place) + (work.part == "B")
        if work.part == "F" and place > 0:
            comm.receive("activations", number, comm.previous, tag)
        if work.part == "B" and place < last:
            comm.receive("gradients", number, comm.next, tag)
        time.sleep(seconds[work.part])
        if work.part == "F" and place < last:
            comm.send("activations", torch.zeros(1), comm.next, tag + 2)
        if work.part == "B" and place > 0:
            comm.send("gradients", torch.zeros(1), comm.previous, tag - 2)
        comm.events.append(Event(str(work), began, time.perf_counter()))
    comm.flush()
    return list(comm.events)


def naps(rank: int, world_size: int, plans: list[Plan], repeats: int) -> list[list[list[Event]]]:
    """Play each plan several times with as many stages as there are processes."""
    comm, noted = Communicator(), []
    for kind, micro_batches, chunks, seconds in plans:
        orders = pipeline_orders(kind, world_size, micro_batches, chunks)
        noted.append([])
        for _ in range(repeats):
            dist.barrier()
            noted[-1].append(take_naps(comm, orders, seconds, chunks))
    return noted


def lesson_model(*, tied: bool, d_model: int = 32) -> Transformer:
    """Build a small decoder of four layers in float64 from one seed."""
    torch.manual_seed(5)
    config = ModelConfig(
        vocab_size=61, d_model=d_model, n_layers=4, n_heads=4, max_seq_len=24, init_std=0.1,
        tie_embeddings=tied,
    )  # fmt: skip
    return Transformer(config).double()


def lesson_batches(n: int, rows: int = 2) -> list[Batch]:
    """Draw micro-batches of random tokens from one seed."""
    tokens = torch.randint(61, (n, rows, 25), generator=torch.Generator().manual_seed(7))
    return [{"inputs": some[:, :-1], "targets": some[:, 1:]} for some in tokens]


def two_stages(rank: int, world_size: int) -> dict[str, Any]:
    """Run the same model and micro-batches through our pipelines and through torch's."""
    found: dict[str, Any] = {"ours": {}, "torch": {}}
    for kind in ("gpipe", "1f1b", "zero_bubble"):
        for tied in (False, True):
            pipeline = PipelineParallel(lesson_model(tied=tied), Communicator(), kind)
            loss = pipeline.backward(lesson_batches(6))
            gradients = {name: p.grad for name, p in pipeline.parameters().items()}
            found["ours"][kind, tied] = (loss.item(), gradients)
    for name, schedule in (("gpipe", pipelining.ScheduleGPipe), ("1f1b", pipelining.Schedule1F1B)):
        found["torch"][name] = by_torch(rank, world_size, schedule)
    late = AsynchronousPipeline(lesson_model(tied=False), Communicator(), plain_steps)
    losses = late.train(lesson_batches(6)).tolist()
    found["asynchronous"] = (losses, late.staleness, late.most_versions)
    found["noted"] = {m: in_earnest(Communicator(), m) for m in (1, 8)}
    return found


def plain_steps(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Make gradient descent with one rate."""
    return torch.optim.SGD(parameters, lr=0.5)


def in_earnest(comm: Communicator, micro_batches: int, repeats: int = 5) -> list[list[Event]]:
    """Compute the gradients of 16 rows in so many pieces, several times after a warm-up."""
    pipeline, noted = PipelineParallel(lesson_model(tied=False, d_model=128), comm), []
    for _ in range(repeats + 1):
        comm.events.clear()
        dist.barrier(comm.group)
        pipeline.backward(lesson_batches(micro_batches, 16 // micro_batches))
        noted.append(list(comm.events))
    return noted[1:]


class _TorchStage(nn.Module):
    """The layers that `PipelineParallel` gives a stage, as torch's pipelines want them."""

    def __init__(self, pipeline: PipelineParallel) -> None:
        super().__init__()
        self.model, self.pipeline = pipeline.model, pipeline

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        model, pipeline = self.model, self.pipeline
        tokens = torch.zeros(x.shape[:2], dtype=torch.long)  # of a context only the shape counts
        context = model.context(tokens)
        if pipeline.is_first:
            x = model.embed(x, context)
        for block in model.blocks:
            x = block(x, context, None)
        return model.unembed(model.norm(x)) if pipeline.is_last else x


def _mean_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def by_torch(rank: int, world_size: int, schedule: Any) -> tuple[float | None, dict[str, Any]]:
    """Return the last stage's loss and this stage's gradients by one of torch's schedules."""
    pipeline = PipelineParallel(lesson_model(tied=False), Communicator())
    batches = lesson_batches(6)
    whole = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    stage = pipelining.PipelineStage(_TorchStage(pipeline), rank, world_size, torch.device("cpu"))
    losses: list[torch.Tensor] = []
    schedule = schedule(stage, n_microbatches=len(batches), loss_fn=_mean_loss)
    if rank == 0:
        schedule.step(whole["inputs"])
    else:
        schedule.step(target=whole["targets"], losses=losses)
    gradients = {name: p.grad for name, p in pipeline.parameters().items()}
    return (torch.stack(losses).mean().item() if losses else None), gradients
