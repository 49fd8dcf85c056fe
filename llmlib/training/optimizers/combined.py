"""Several optimizers as one: Muon for the hidden matrices, AdamW for the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from llmlib.training.checkpointing.named_state import AnyOptimizer
from llmlib.training.config import TrainConfig
from llmlib.training.distributed import world_size
from llmlib.training.optimizers.adamw import (
    Group,
    adamw,
    adamw_from_groups,
    param_groups,
    parameter_roles,
)
from llmlib.training.optimizers.muon import Muon, Scale
from llmlib.training.precision import resolve_precision


class CombinedOptimizer(AnyOptimizer):
    """Several optimizers, each with its own parameters, stepped as one."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        owned = [id(p) for group in self.param_groups for p in group["params"]]
        if len(owned) != len(set(owned)):
            raise ValueError("a parameter is in two optimizers: give each parameter to one")

    @property
    @override
    def param_groups(self) -> list[Group]:
        """The groups of all optimizers, in order; changing a group changes its owner."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    @override
    def state(self) -> dict[Tensor, Any]:
        return {p: state for opt in self.optimizers for p, state in opt.state.items()}

    @override
    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    @override
    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each optimizer in order, under the key `optimizers`."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: When it was saved from another number of optimizers.
        """
        if len(state["optimizers"]) != len(self.optimizers):
            raise ValueError(
                f"the state holds {len(state['optimizers'])} optimizers, this object "
                f"{len(self.optimizers)}: build it as it was when the state was saved"
            )
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def muon_with_adamw(
    model: nn.Module,
    *,
    muon_lr: float = 0.02,
    lr: float = 3e-3,
    momentum: float = 0.95,
    scale: Scale = "spectral",
    muon_dtype: torch.dtype | None = None,
    muon_steps: int = 5,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    decay_embeddings: bool = True,
    stacked_rows: Mapping[str, Sequence[int]] | None = None,
) -> CombinedOptimizer:
    """Give the hidden matrices to Muon and the embeddings, output matrix and vectors to AdamW.

    Args:
        scale: Muon's update scale; with `rms`, `muon_lr` may equal `lr`.
        stacked_rows: For parameters that are several matrices on top of each other, the rows of
            each, keyed by the end of the parameter's name, e.g. `{"qkv.weight": (64, 64, 64)}`.

    Raises:
        ValueError: When the model has no hidden matrix, or `stacked_rows` names none of its
            parameters.

    Example:
        >>> model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
        >>> [type(o).__name__ for o in muon_with_adamw(model).optimizers]
        ['Muon', 'AdamW']
    """
    roles = parameter_roles(model)
    hidden = {
        name: p
        for name, p in model.named_parameters()
        if roles[name] == "matrix" and p.requires_grad
    }
    if not hidden:
        raise ValueError("the model has no hidden matrix for Muon: use adamw")
    ends = stacked_rows or {}
    if unknown := [end for end in ends if not any(name.endswith(end) for name in roles)]:
        raise ValueError(f"stacked_rows: no parameter's name ends in {unknown}")
    groups = param_groups(model, weight_decay, decay_embeddings=decay_embeddings)
    mine = {id(p) for p in hidden.values()}
    for group in groups:
        group["params"] = [p for p in group["params"] if id(p) not in mine]
    rest = [group for group in groups if group["params"]]
    muon = Muon(
        _stacks(hidden, ends),
        muon_lr,
        momentum=momentum,
        weight_decay=weight_decay,
        scale=scale,
        steps=muon_steps,
        dtype=muon_dtype,
    )
    return CombinedOptimizer([muon, adamw_from_groups(rest, lr, betas, eps)] if rest else [muon])


def _stacks(hidden: Mapping[str, Tensor], stacked_rows: Mapping[str, Sequence[int]]) -> list[Group]:
    """Group the hidden matrices by how they are stacked."""
    groups: dict[tuple[int, ...], Group] = {}
    for name, parameter in hidden.items():
        rows = next((tuple(r) for end, r in stacked_rows.items() if name.endswith(end)), ())
        group = groups.setdefault(rows, {"params": [], "rows": list(rows) or None})
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(model: nn.Module, config: TrainConfig) -> AnyOptimizer:
    """Build the optimizer that a configuration names.

    Where the model has `stacked_rows`, Muon updates the matrices it names apart.

    Raises:
        ValueError: When Muon is to update sharded matrices.
    """
    common: dict[str, Any] = {
        "lr": config.lr,
        "betas": config.betas,
        "eps": config.eps,
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "adamw":
        return adamw(model, **common)
    if config.parallel != "ddp" and world_size() > 1:
        raise ValueError("Muon needs whole matrices: use parallel='ddp', or optimizer='adamw'")
    device = next(model.parameters()).device
    dtype = resolve_precision(config.precision, device)
    return muon_with_adamw(
        model,
        muon_lr=config.muon_lr,
        muon_steps=config.muon_steps,
        muon_dtype=dtype,
        # Queries, keys and values share one parameter, and so do gate and values.
        stacked_rows=getattr(model, "stacked_rows", None),
        **common,
    )
