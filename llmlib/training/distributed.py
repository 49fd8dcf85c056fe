"""One script on one process or many: who am I, and how do we agree."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from llmlib.core.batch import Batch
from llmlib.core.hardware.device import best_device

Parallel = Literal["ddp", "fsdp"]
LossFn = Callable[[Any, Batch], Tensor]


def rank() -> int:
    """Return this process's number; 0 for a process alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that train together; 1 for a process alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: str | None = None, timeout_s: float = 600) -> Iterator[torch.device]:
    """Join the processes that torchrun started, if it did; yield this process's device.

    Args:
        device: `cpu`, `cuda` ...; default: the best at hand. Under torchrun each process of a
            machine takes the CUDA device of its local rank.
        timeout_s: Seconds after which a process that waits for the others gives up.
    """
    chosen = best_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield chosen
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout_s))
    try:
        yield chosen
    finally:
        dist.destroy_process_group()


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add up a tensor of one shape over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def everyone(succeeded: bool) -> bool:
    """Wait for all processes and tell whether all of them succeeded."""
    if world_size() == 1:
        return succeeded
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    failures = torch.tensor(0 if succeeded else 1, device=device)
    return not sum_over_ranks(failures).item()


class Objective(nn.Module):
    """A model and its loss, `loss_fn(model, batch)` in mean nats per target, as one module.

    Data parallelism and compilation hook into a module's `forward`. With the loss inside, a loss
    function may call any method of the model, and the compiler sees model and loss together.
    """

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Batch) -> Tensor:
        """Return a batch's mean loss."""
        return self.loss_fn(self.model, batch)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Bring every tensor of a batch to a device, without waiting where that is possible."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def parallelize(objective: Objective, parallel: Parallel) -> nn.Module:
    """Spread a model over the processes; alone, return it as it is.

    `ddp` keeps the whole model on each process and averages the gradients. `fsdp` (fully sharded,
    the third stage of ZeRO) keeps a part of every parameter, gradient and optimizer state on each,
    and gathers a layer's parameters when they are needed. Build the optimizer afterwards.

    References:
        Li et al. (2020), PyTorch Distributed; Rajbhandari et al. (2020), ZeRO; Zhao et al. (2023),
        PyTorch FSDP.
    """
    if world_size() == 1:
        return objective
    if parallel == "ddp":
        device = next(objective.parameters()).device
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(objective, devices, broadcast_buffers=False)
    for parameter in objective.parameters():  # DDP does this itself: all start from rank 0's
        dist.broadcast(parameter.data, src=0)
    for module in objective.modules():
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer)
    fully_shard(objective)
    return objective


def accumulating(module: nn.Module, *, is_last: bool) -> AbstractContextManager[object]:
    """Return a context for one backward pass of several: only the last one communicates."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
    if isinstance(module, DistributedDataParallel) and not is_last:
        return module.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """Return a plain or sharded tensor in one piece, detached; all processes must ask together."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


@torch.no_grad()
def fill(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into a plain or a sharded one."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)
