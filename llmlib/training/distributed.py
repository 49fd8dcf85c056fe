"""One script on one process or many: who am I, and how do we agree."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch, LossFn
from llmlib.core.hardware.device import best_device
from llmlib.training.engine.split_products import split_products

Parallel = Literal["ddp", "fsdp", "tensor"]


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
    limit = timedelta(seconds=timeout_s)
    store, number, size = next(rendezvous("env://", timeout=limit))
    # torchrun keeps its store when it starts the processes again: without a name of their own they
    # would find the addresses of the dead.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"attempt_{attempt}", store)  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group(backend, store=store, rank=number, world_size=size, timeout=limit)
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


def parallelize(objective: Objective, parallel: Parallel, tensor_size: int = 1) -> nn.Module:
    """Spread a model over the processes; alone, return it as it is.

    `ddp` keeps the whole model on each process and averages the gradients. `fsdp` (fully sharded,
    the third stage of ZeRO) keeps a part of every parameter, gradient and optimizer state on each,
    and gathers a layer's parameters when they are needed. `tensor` shares each layer's products
    among `tensor_size` neighbouring processes that read the same data; over groups of them the
    model is fully sharded. Build the optimizer afterwards.

    Raises:
        ValueError: When the processes are not groups of `tensor_size`, or the model's layers cannot
            be shared so.

    References:
        Li et al. (2020), PyTorch Distributed; Rajbhandari et al. (2020), ZeRO; Zhao et al. (2023),
        PyTorch FSDP; Shoeybi et al. (2019), Megatron-LM.
    """
    if world_size() == 1:
        return objective
    device = next(objective.parameters()).device
    if parallel == "ddp":
        devices = [device] if device.type == "cuda" else None
        return DistributedDataParallel(objective, devices, broadcast_buffers=False)
    for parameter in objective.parameters():  # DDP does this itself: all start from rank 0's
        dist.broadcast(parameter.data, src=0)
    mesh = None
    if parallel == "tensor":
        grid = _grid(device, tensor_size)
        if not isinstance(objective.model, Transformer):
            raise ValueError(f"{type(objective.model).__name__}: 'tensor' splits decoders only")
        split_products(objective.model, grid["tensor"])
        mesh = grid["data"]
        if mesh.size() == 1:
            return objective
    for module in objective.modules():
        if isinstance(module, nn.ModuleList):
            for layer in module:
                fully_shard(layer, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return objective


def _grid(device: torch.device, tensor_size: int) -> DeviceMesh:
    """Return the processes as groups of neighbours: those of a group share each product."""
    groups, rest = divmod(world_size(), tensor_size)
    if rest:
        raise ValueError(
            f"{world_size()} processes are not groups of tensor_size={tensor_size}: start a "
            "multiple of it, or change it"
        )
    return init_device_mesh(device.type, (groups, tensor_size), mesh_dim_names=("data", "tensor"))


def copies(parallel: Parallel, tensor_size: int) -> int:
    """Return how many neighbouring processes read the same data.

    Example:
        >>> copies("tensor", 4)  # alone
        1
    """
    return tensor_size if parallel == "tensor" and world_size() > 1 else 1


def by_mesh(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group tensors by the processes that share them: torch does not compute across groups.

    Example:
        >>> by_mesh([torch.ones(2), torch.ones(3)])
        [[tensor([1., 1.]), tensor([1., 1., 1.])]]
    """
    groups: dict[DeviceMesh | None, list[Tensor]] = {}
    for tensor in tensors:
        mesh = tensor.device_mesh if isinstance(tensor, DTensor) else None
        groups.setdefault(mesh, []).append(tensor)
    return list(groups.values())


def total_norm(tensors: Iterable[Tensor], norm_type: float = 2.0) -> Tensor:
    """Return the norm of all tensors together, as if none were sharded; it may itself be.

    Example:
        >>> total_norm([torch.tensor([3.0]), torch.tensor([4.0])])
        tensor(5.)
    """
    groups = by_mesh(tensors) or [[]]
    norms = [nn.utils.get_total_norm(group, norm_type) for group in groups]
    if len(norms) == 1:
        return norms[0]
    return torch.linalg.vector_norm(torch.stack([whole(norm) for norm in norms]), norm_type)


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


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a plain or sharded tensor, detached."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


@torch.no_grad()
def fill(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into a plain or a sharded one."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)
