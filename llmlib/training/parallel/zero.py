"""ZeRO: data parallelism in which each process keeps a part of what all of them have alike."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llmlib.core.batch import Batch, LossFn
from llmlib.training.optimizers.adamw import param_groups
from llmlib.training.optimizers.base import state_bytes
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.data_parallel import target_shares
from llmlib.training.parallel.ring import ring_all_gather, ring_all_reduce, ring_reduce_scatter

ZeROStage = Literal[1, 2, 3]
MakeOptimizer = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


class FlatUnit:
    """Parameters that are gathered and reduced together, as one vector cut into equal parts.

    Attributes:
        flat: All of them, with zeros up to a multiple of the number of processes.
        shard: This process's part, what the optimizer updates; its `grad` is the part's gradient.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], comm: Communicator, *, shards_parameters: bool
    ) -> None:
        self.parameters, self.comm = list(parameters), comm
        self.shards_parameters = shards_parameters
        sizes = [p.numel() for p in parameters]
        self.padding = -sum(sizes) % comm.size
        self.sizes = [*sizes, self.padding]
        self.flat = self._joined([p.detach() for p in parameters])
        own = self.flat.tensor_split(comm.size)[comm.rank]
        self.shard = nn.Parameter(own.clone() if shards_parameters else own)
        for parameter, view in zip(self.parameters, self._views(self.flat), strict=True):
            parameter.data = view
        self.waiting = set(self.parameters)
        if shards_parameters:
            self.release()

    def gather(self) -> None:
        """Make all parameters whole, from every process's part."""
        storage, size = self.flat.untyped_storage(), self.flat.numel() * self.flat.itemsize
        if storage.size() == size and self.shards_parameters:
            return
        storage.resize_(size)
        with torch.no_grad():
            own = self.flat.tensor_split(self.comm.size)[self.comm.rank]
            if self.shards_parameters:
                own.copy_(self.shard)
            ring_all_gather(self.comm, self.flat)

    def release(self) -> None:
        """Give back the memory of all but the own part; the parameters keep their shapes."""
        self.flat.untyped_storage().resize_(0)

    def reduce(self) -> None:
        """Add the gradients up over the processes, keep the own part of the sum, drop the rest."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = self._joined(gradients)
        del gradients
        for parameter in self.parameters:
            parameter.grad = None
        own = ring_reduce_scatter(self.comm, flat)
        if self.shard.grad is None:
            self.shard.grad = own.clone()  # a view would keep all of it
        else:
            self.shard.grad += own
        self.waiting = set(self.parameters)

    def _joined(self, tensors: Sequence[Tensor]) -> Tensor:
        tail = tensors[0].new_zeros(self.padding)
        return torch.cat([*(tensor.flatten() for tensor in tensors), tail])

    def _views(self, flat: Tensor) -> list[Tensor]:
        *pieces, _ = flat.split(self.sizes)
        return [piece.view_as(p) for piece, p in zip(pieces, self.parameters, strict=True)]


class ZeRO:
    r"""Trains one model on P processes that share its optimizer state, gradients and parameters.

    What each process keeps, in bytes a parameter (float32, Adam), and sends, of the parameters:

    - stage 1: $4 + 4 + 8/P$, and $2\tfrac{P-1}{P}$;
    - stage 2: $4 + (4 + 8)/P$, and $2\tfrac{P-1}{P}$;
    - stage 3: $(4 + 4 + 8)/P$, and $3\tfrac{P-1}{P}$.

    Stages 1 and 2 send as much as plain data parallelism: instead of an all-reduce of the gradient,
    its reduce-scatter and an all-gather of the new parameters. ZeROStage 3 gathers the parameters
    twice, before a layer's forward and before its backward pass. Stages 2 and 3 reduce the gradient
    of every micro-batch, stage 1 once an update.

    Args:
        model: The same weights on every process; its blocks are the units of stage 3.
        make_optimizer: Builds the optimizer from parameter groups of flat parts. It must treat
            every number alike, as AdamW does and Muon does not.
        weight_decay: Of matrices; vectors have none.

    References:
        Rajbhandari et al. (2020), ZeRO: Memory Optimizations Toward Training Trillion Parameter
        Models, sections 5 and 7.
    """

    def __init__(
        self,
        model: nn.Module,
        comm: Communicator,
        make_optimizer: MakeOptimizer,
        *,
        stage: ZeROStage,
        weight_decay: float = 0.1,
    ) -> None:
        if stage not in (1, 2, 3):
            raise ValueError(f"stage={stage}: ZeRO has stages 1, 2 and 3")
        self.model, self.comm, self.stage = model, comm, stage
        self.units: dict[nn.Module, list[FlatUnit]] = {}
        groups: list[dict[str, Any]] = []
        for module, parameters in _units(model, weight_decay).items():
            for decay, alike in parameters.items():
                unit = FlatUnit(alike, comm, shards_parameters=stage == 3)
                self.units.setdefault(module, []).append(unit)
                groups.append({"params": [unit.shard], "weight_decay": decay})
        self.optimizer = make_optimizer(groups)
        self._unit_of = {p: unit for unit in self.all_units for p in unit.parameters}
        self._is_last = True
        self._hook()

    @property
    def all_units(self) -> list[FlatUnit]:
        """Every unit, the model's own first, then the blocks'."""
        return [unit for units in self.units.values() for unit in units]

    def backward(self, loss_fn: LossFn, batches: list[Batch]) -> Tensor:
        """Compute the own part of the gradient of the mean loss over all targets; return the loss.

        Raises:
            ValueError: When no target of any process counts.
        """
        own, loss = self.units[self.model], torch.zeros(1, dtype=torch.float64)
        shares = target_shares(self.comm, batches)
        for i, (batch, share) in enumerate(zip(batches, shares, strict=True)):
            self._is_last = i == len(batches) - 1
            self._gather(own)
            mine = loss_fn(self.model, batch) * share
            self._release(own)
            self._gather(own)
            mine.backward()
            loss += mine.detach()
            self._finish()
        ring_all_reduce(self.comm, loss)
        return loss[0]

    def clip(self, limit: float) -> float:
        """Scale the gradient down to a norm over all parts of `limit`; return the norm before.

        The squares of all processes' parts are added up. A process that clipped its part by that
        part's norm would turn the gradient, and differently for every number of processes.
        """
        parts = [unit.shard.grad for unit in self.all_units]
        gradients = [part for part in parts if part is not None]
        squares = torch.zeros(1, dtype=torch.float64)
        for gradient in gradients:
            squares += gradient.double().square().sum()
        ring_all_reduce(self.comm, squares)
        norm = squares.sqrt().item()
        if norm > limit:
            for gradient in gradients:
                gradient *= limit / norm
        return norm

    def step(self) -> None:
        """Update the own part; below stage 3 gather everybody's."""
        self.optimizer.step()
        for unit in self.all_units:
            unit.shard.grad = None
            if self.stage < 3:
                for parameter in unit.parameters:
                    parameter.grad = None
                unit.gather()

    def held_bytes(self) -> dict[str, int]:
        """Return the bytes that this process keeps between two steps, gradients as before one."""
        parameters = sum(unit.flat.untyped_storage().size() for unit in self.all_units)
        shards = sum(unit.shard.nbytes for unit in self.all_units)
        whole = sum(unit.flat.nbytes for unit in self.all_units)
        return {
            "parameters": shards if self.stage == 3 else parameters,
            "gradients": whole if self.stage == 1 else shards,
            "optimizer": state_bytes(self.optimizer),
        }

    def gather_all(self) -> None:
        """Make every parameter whole on every process, to evaluate or save the model."""
        for unit in self.all_units:
            unit.gather()

    def _hook(self) -> None:
        for parameter in self._unit_of:
            parameter.register_post_accumulate_grad_hook(self._arrived)
        if self.stage < 3:
            return
        for module, units in self.units.items():
            if module is self.model:
                continue
            module.register_forward_pre_hook(lambda *_, units=units: self._gather(units))
            module.register_forward_hook(lambda *_, units=units: self._release(units))
            module.register_full_backward_pre_hook(lambda *_, units=units: self._gather(units))

    def _arrived(self, parameter: Tensor) -> None:
        unit = self._unit_of[parameter]  # pyright: ignore[reportArgumentType]
        unit.waiting.discard(parameter)  # pyright: ignore[reportArgumentType]
        if self.stage > 1 and not unit.waiting:
            unit.reduce()
            self._release([unit])

    def _finish(self) -> None:
        """Reduce what the backward pass left: in stage 1 all, else units with unused parameters."""
        for unit in self.all_units:
            if self.stage > 1 and len(unit.waiting) < len(unit.parameters):
                unit.reduce()
                self._release([unit])
            elif self.stage == 1 and self._is_last:
                unit.reduce()

    def _gather(self, units: Sequence[FlatUnit]) -> None:
        if self.stage == 3:
            for unit in units:
                unit.gather()

    def _release(self, units: Sequence[FlatUnit]) -> None:
        if self.stage == 3:
            for unit in units:
                unit.release()


def _units(
    model: nn.Module, weight_decay: float
) -> dict[nn.Module, dict[float, list[nn.Parameter]]]:
    """Return each block's parameters, and the model's own, by their weight decay."""
    blocks = [m for parent in model.modules() if isinstance(parent, nn.ModuleList) for m in parent]
    owner = {p: block for block in blocks for p in block.parameters()}
    units: dict[nn.Module, dict[float, list[nn.Parameter]]] = {model: {}}
    for group in param_groups(model, weight_decay):
        for parameter in group["params"]:
            unit = units.setdefault(owner.get(parameter, model), {})
            unit.setdefault(group["weight_decay"], []).append(parameter)
    return units
