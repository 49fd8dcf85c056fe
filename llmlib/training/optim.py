"""Which parameters are decayed, and which optimizer updates them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llmlib.training.muon import Muon, Scale

Role = Literal["matrix", "embedding", "vector"]
Group = dict[str, Any]


def parameter_roles(model: nn.Module, embeddings: Collection[str] = ()) -> dict[str, Role]:
    """Say of each parameter whether it is a hidden matrix, an embedding or a vector.

    Vectors are norms' scales and all biases. Embeddings are the tables of `nn.Embedding`, and the
    matrices outside the model's stack of layers, such as the output matrix. The stack is
    recognised by the number in its parameters' names, as in `blocks.3.up.weight`.

    Args:
        model: The model.
        embeddings: Names of further parameters to treat as embeddings.

    Returns:
        The role by parameter name. A tied parameter appears once.

    Raises:
        ValueError: When `embeddings` names no parameter of the model.

    Example:
        >>> parameter_roles(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)))
        {'0.weight': 'embedding', '1.weight': 'matrix', '1.bias': 'vector'}
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    roles: dict[str, Role] = {}
    for name, parameter in model.named_parameters():
        in_stack = any(part.isdigit() for part in name.split("."))
        if parameter.ndim < 2:
            roles[name] = "vector"
        elif id(parameter) in tables or name in embeddings or not in_stack:
            roles[name] = "embedding"
        else:
            roles[name] = "matrix"
    unknown = sorted(set(embeddings) - roles.keys())
    if unknown:
        raise ValueError(f"no parameters named {unknown}: names are as in model.named_parameters()")
    return roles


def param_groups(
    model: nn.Module, weight_decay: float, *, decay_embeddings: bool = True
) -> list[Group]:
    """Split the parameters into those with weight decay and those without.

    Decay pulls matrices towards zero. Norm scales and biases are left alone: pulling them towards
    zero would not make the model simpler, only weaker.

    Args:
        model: The model; parameters that need no gradient are left out.
        weight_decay: Coefficient for the decayed ones, 0 or more.
        decay_embeddings: Whether embeddings and output matrix are decayed.

    Returns:
        Parameter groups for a torch optimizer.

    Raises:
        ValueError: When the coefficient is negative.

    Example:
        >>> groups = param_groups(nn.Linear(3, 2), 0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(1, 0.1), (1, 0.0)]

    References:
        Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization.
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay={weight_decay} must be 0 or more")
    decayed: set[Role] = {"matrix", "embedding"} if decay_embeddings else {"matrix"}
    groups: list[Group] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    roles = parameter_roles(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[0 if roles[name] in decayed else 1]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def adamw(
    model: nn.Module,
    lr: float,
    *,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    decay_embeddings: bool = True,
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """Build AdamW with weight decay on matrices only.

    Args:
        model: The model.
        lr: Peak learning rate.
        betas: Decay rates of the two running means.
        eps: Added to the root of the second moment.
        weight_decay: Decoupled weight decay of matrices.
        decay_embeddings: Whether embeddings and output matrix are decayed.
        fused: One kernel for the whole update; default: where the device has one.

    Returns:
        The optimizer.

    Example:
        >>> adamw(nn.Linear(3, 2), 1e-3).param_groups[1]["weight_decay"]
        0.0
    """
    groups = param_groups(model, weight_decay, decay_embeddings=decay_embeddings)
    return _adamw(groups, lr, betas, eps, fused)


def _adamw(
    groups: list[Group], lr: float, betas: tuple[float, float], eps: float, fused: bool | None
) -> torch.optim.AdamW:
    if fused is None:
        devices = {parameter.device.type for group in groups for parameter in group["params"]}
        fused = devices <= {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)


class CombinedOptimizer:
    """Several optimizers, each with its own parameters, stepped as one.

    Args:
        optimizers: The optimizers; no parameter may belong to two of them.

    Raises:
        ValueError: When a parameter belongs to two optimizers.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        owned = [id(p) for group in self.param_groups for p in group["params"]]
        if len(owned) != len(set(owned)):
            raise ValueError("a parameter is in two optimizers: give each parameter to one")

    @property
    def param_groups(self) -> list[Group]:
        """The parameter groups of all optimizers, in order; changing a group changes its owner."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:
        """The state of every parameter that has one."""
        return {p: state for opt in self.optimizers for p, state in opt.state.items()}

    def step(self) -> None:
        """Update all parameters."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients.

        Args:
            set_to_none: Free them instead of filling them with zeros.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each optimizer in order.

        Returns:
            Torch state dictionaries under the key `optimizers`.
        """
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: The saved state.

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
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    decay_embeddings: bool = True,
    stacked_rows: Mapping[str, Sequence[int]] | None = None,
) -> CombinedOptimizer:
    """Give the hidden matrices to Muon and the embeddings, output matrix and vectors to AdamW.

    Args:
        model: The model; its hidden matrices are those of `parameter_roles`.
        muon_lr: Peak learning rate of Muon.
        lr: Peak learning rate of AdamW.
        momentum: Muon's momentum.
        scale: Muon's update scale; with `rms`, `muon_lr` may equal `lr`.
        muon_dtype: Number format of Muon's Newton-Schulz products.
        betas: AdamW's decay rates.
        eps: AdamW's epsilon.
        weight_decay: Decoupled weight decay of all matrices.
        decay_embeddings: Whether embeddings and output matrix are decayed.
        stacked_rows: For parameters that are several matrices on top of each other, the rows of
            each, keyed by the end of the parameter's name, e.g. `{"qkv.weight": (64, 64, 64)}`.

    Returns:
        Muon and AdamW as one optimizer.

    Raises:
        ValueError: When the model has no hidden matrix.

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
    groups = param_groups(model, weight_decay, decay_embeddings=decay_embeddings)
    mine = {id(p) for p in hidden.values()}
    for group in groups:
        group["params"] = [p for p in group["params"] if id(p) not in mine]
    rest = [group for group in groups if group["params"]]
    muon = Muon(
        _stacks(hidden, stacked_rows or {}),
        muon_lr,
        momentum=momentum,
        weight_decay=weight_decay,
        scale=scale,
        dtype=muon_dtype,
    )
    return CombinedOptimizer([muon, _adamw(rest, lr, betas, eps, None)] if rest else [muon])


def _stacks(hidden: Mapping[str, Tensor], stacked_rows: Mapping[str, Sequence[int]]) -> list[Group]:
    """Group the hidden matrices by how they are stacked."""
    groups: dict[tuple[int, ...], Group] = {}
    for name, parameter in hidden.items():
        rows = next((tuple(r) for end, r in stacked_rows.items() if name.endswith(end)), ())
        group = groups.setdefault(rows, {"params": [], "rows": list(rows) or None})
        group["params"].append(parameter)
    return list(groups.values())
