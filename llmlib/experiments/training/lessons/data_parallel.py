"""What the processes of the section on data parallelism and ZeRO do."""

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.training.distributed import Objective, own_part, whole
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.adamw import adamw, adamw_from_groups
from llmlib.training.optimizers.base import state_bytes
from llmlib.training.parallel.communicator import Communicator, Event
from llmlib.training.parallel.data_parallel import DataParallel, broadcast_parameters
from llmlib.training.parallel.local_sgd import DiLoCo
from llmlib.training.parallel.ring import ring_all_reduce
from llmlib.training.parallel.zero import ZeRO

CONFIG = ModelConfig(
    vocab_size=61, d_model=40, n_layers=3, n_heads=5, max_seq_len=16, tie_embeddings=False
)
RATE, STEPS = 1e-2, 3


def decoder(seed: int = 0, dtype: torch.dtype = torch.float32) -> Transformer:
    """Return the section's model, about 80,000 parameters."""
    torch.manual_seed(seed)
    return Transformer(CONFIG).to(dtype)


def rows_of(rank: int, step: int, *, skipped: int = 0) -> Batch:
    """Return what one process reads at a step; process r does not count `skipped * r` targets."""
    generator = torch.Generator().manual_seed(100 * step + rank)
    tokens = torch.randint(CONFIG.vocab_size, (4, 17), generator=generator)
    targets = tokens[:, 1:].clone()
    targets[:, : skipped * rank] = IGNORE
    return {"inputs": tokens[:, :-1], "targets": targets}


def adam(model: nn.Module) -> torch.optim.Optimizer:
    """Return plain AdamW; the fused kernel rounds a vector's last numbers otherwise."""
    return adamw(model, RATE, weight_decay=0.0, fused=False)


def flat(tensors: Any) -> Tensor:
    """Join tensors into one vector."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def add_up(rank: int, world_size: int, numbers: list[list[float]]) -> tuple[list[float], int]:
    """Add one row of numbers a process up by the ring; return the sums and the bytes sent."""
    comm, mine = Communicator(), torch.tensor(numbers[rank], dtype=torch.float64)
    ring_all_reduce(comm, mine)
    return mine.tolist(), comm.sent_bytes


def train_replica(rank: int, world_size: int, *, skipped: int, dtype: torch.dtype) -> dict:
    """Take a few steps of data parallelism from weights that were drawn differently."""
    model, comm = decoder(seed=rank, dtype=dtype), Communicator()
    broadcast_parameters(model, comm)
    comm.sent.clear()
    parallel, optimizer = DataParallel(model, comm, bucket_bytes=60_000), adam(model)
    losses, gradient = [], torch.empty(0)
    for step in range(STEPS):
        batch = rows_of(rank, step, skipped=skipped)
        losses.append(parallel.backward(next_token_loss, [batch]).item())
        if step == 0:
            gradient = flat(p.grad for p in model.parameters())
        optimizer.step()
    parallel.close()
    held = {"parameters": flat(model.parameters()).nbytes, "gradients": gradient.nbytes}
    return {
        "losses": losses, "gradient": gradient, "weights": flat(model.parameters()),
        "sent": comm.sent_bytes / STEPS, "buckets": len(parallel.buckets),
        "held": {**held, "optimizer": state_bytes(optimizer)},
    }  # fmt: skip


def train_sharded(rank: int, world_size: int, stage: Any) -> dict:
    """Take the same steps with one of ZeRO's stages, in float32."""
    model, comm = decoder(), Communicator()
    sharded = ZeRO(
        model,
        comm,
        lambda groups: adamw_from_groups(groups, RATE, fused=False),
        stage=stage,
        weight_decay=0.0,
    )
    losses = []
    for step in range(STEPS):
        losses.append(sharded.backward(next_token_loss, [rows_of(rank, step)]).item())
        sharded.step()
    sent, held = comm.sent_bytes / STEPS, sharded.held_bytes()
    sharded.gather_all()
    return {"losses": losses, "weights": flat(model.parameters()), "sent": sent, "held": held}


def train_with_torch(rank: int, world_size: int, kind: str, *, skipped: int = 0) -> dict:
    """Take the same steps with DDP or FSDP2."""
    model = decoder()
    objective: nn.Module = Objective(model, next_token_loss)
    if kind == "FSDP2":
        for block in model.blocks:
            fully_shard(block)
        fully_shard(objective)
    else:
        objective = DistributedDataParallel(objective)
    optimizer = adam(model)
    gradient = torch.empty(0)
    for step in range(STEPS):
        optimizer.zero_grad()
        objective(rows_of(rank, step, skipped=skipped)).backward()
        if step == 0:
            gradient = flat(whole(p.grad) for p in model.parameters() if p.grad is not None)
        optimizer.step()
    held = sum(own_part(p).nbytes for p in model.parameters())
    weights = flat(whole(p) for p in model.parameters())
    return {"gradient": gradient, "weights": weights, "held": held}


def meet_once(rank: int, world_size: int) -> dict:
    """Train alone for a lap of three steps, then meet: averages of weights, no outer momentum."""
    model, comm = decoder(dtype=torch.float64), Communicator()
    local = DiLoCo(model, comm, lambda shared: torch.optim.SGD(shared, lr=1.0))
    optimizer = adam(model)
    for step in range(STEPS):
        optimizer.zero_grad()
        next_token_loss(model, rows_of(rank, step)).backward()
        optimizer.step()
    alone = flat(model.parameters())
    local.meet()
    return {"alone": alone, "met": flat(model.parameters()), "sent": comm.sent_bytes}


class SlowWire(Communicator):
    """A wire that needs so many seconds a message and a byte, slept, not computed."""

    latency, seconds_a_byte = 0.0, 0.0

    @override
    def exchange(self, name: str, sends: dict[int, Tensor], receives: dict[int, Tensor]) -> None:
        began = time.perf_counter()
        size = sum(what.nbytes for what in sends.values())
        time.sleep(self.latency + size * self.seconds_a_byte)
        super().exchange(name, sends, receives)
        self.events[-1] = Event(name, began, self.events[-1].end, size)


class SlowLayer(nn.Module):
    """A linear layer whose backward pass sleeps, and notes when."""

    def __init__(self, width: int, seconds: float, noted: list[Event]) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.seconds, self.noted = seconds, noted

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        if y.requires_grad:
            y.register_hook(self._sleep)
        return y

    def _sleep(self, _: Tensor) -> None:
        began = time.perf_counter()
        time.sleep(self.seconds)
        self.noted.append(Event("backward", began, time.perf_counter()))


def on_a_slow_wire(rank: int, world_size: int, layers_a_bucket: int) -> dict:
    """Do one backward pass of six slow layers of 4 KiB; return what happened when, from 0."""
    noted: list[Event] = []
    comm = SlowWire()
    torch.manual_seed(0)
    model = nn.Sequential(*(SlowLayer(32, 0.02, noted) for _ in range(6)))
    parallel = DataParallel(model, comm, bucket_bytes=4096 * layers_a_bucket)
    parallel.backward(_square, [{"inputs": torch.ones(1, 32)}])
    comm.events.clear()
    noted.clear()
    comm.latency, comm.seconds_a_byte = 0.003, 0.008 / 4096
    parallel.backward(_square, [{"inputs": torch.ones(1, 32)}])
    parallel.close()
    # Without the exchanges of the number of targets and of the loss.
    events = [event for event in comm.events if event.sent_bytes > 8]
    zero = noted[0].start
    return {
        "backward": [(event.start - zero, event.end - zero) for event in noted],
        "ring": [(event.start - zero, event.end - zero) for event in events],
        "seconds": max(event.end for event in (*noted, *events)) - zero,
    }


def on_two(rank: int, world_size: int, numbers: list[list[float]]) -> dict:
    """Do all that the section asks of two processes, in one start."""
    return {
        "ring": add_up(rank, world_size, numbers),
        "uneven": train_replica(rank, world_size, skipped=5, dtype=torch.float64),
        "replica": train_replica(rank, world_size, skipped=0, dtype=torch.float32),
        "stages": {stage: train_sharded(rank, world_size, stage) for stage in (1, 2, 3)},
        "torch": {kind: train_with_torch(rank, world_size, kind) for kind in ("DDP", "FSDP2")},
        "uneven DDP": train_with_torch(rank, world_size, "DDP", skipped=5),
        "lap": meet_once(rank, world_size),
        "wire": {layers: on_a_slow_wire(rank, world_size, layers) for layers in (1, 2, 6)},
    }


def _square(model: nn.Module, batch: Batch) -> Tensor:
    return model(batch["inputs"]).square().mean()
