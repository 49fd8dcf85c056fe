"""Which parameters are decayed, and AdamW with that decay."""

from collections.abc import Collection
from math import inf
from typing import Any, Literal

import torch
from torch import nn

from llmlib.training.distributed import by_mesh

Role = Literal["matrix", "embedding", "vector"]
Group = dict[str, Any]


def parameter_roles(model: nn.Module, embeddings: Collection[str] = ()) -> dict[str, Role]:
    """Say of each parameter, a tied one once, whether it is hidden matrix, embedding or vector.

    Vectors are norms' scales and all biases. Embeddings are the tables of `nn.Embedding`, the
    matrices outside the model's stack of layers, such as the output matrix, and those that
    `embeddings` names. The stack is recognised by the number in its parameters' names, as in
    `blocks.3.up.weight`. Kernels of convolutions, and what a module names in `elementwise`, act
    number by number like vectors.

    Raises:
        ValueError: When `embeddings` names no parameter of the model.

    Example:
        >>> parameter_roles(nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)))
        {'0.weight': 'embedding', '1.weight': 'matrix', '1.bias': 'vector'}
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    elementwise = {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name in getattr(module, "elementwise", ())
    }
    roles: dict[str, Role] = {}
    for name, parameter in model.named_parameters():
        in_stack = any(part.isdigit() for part in name.split("."))
        if parameter.ndim != 2 or name in elementwise:
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
    """Split the parameters that need a gradient into those with weight decay and those without.

    Decay pulls matrices towards zero. Norm scales and biases are left alone: pulling them towards
    zero would not make the model simpler, only weaker.

    Args:
        decay_embeddings: Whether embeddings and output matrix are decayed.

    Raises:
        ValueError: When the coefficient is negative or no finite number.

    Example:
        >>> groups = param_groups(nn.Linear(3, 2), 0.1)
        >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
        [(1, 0.1), (1, 0.0)]

    References:
        Loshchilov and Hutter (2019), Decoupled Weight Decay Regularization.
    """
    if not 0 <= weight_decay < inf:
        raise ValueError(f"weight_decay={weight_decay} must be 0 or more, and finite")
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
    """Build AdamW with weight decay as `param_groups` gives it, on matrices only.

    Args:
        fused: One kernel for the whole update; default: where the device has one.

    Example:
        >>> adamw(nn.Linear(3, 2), 1e-3).param_groups[1]["weight_decay"]
        0.0
    """
    groups = param_groups(model, weight_decay, decay_embeddings=decay_embeddings)
    return adamw_from_groups(groups, lr, betas, eps, fused)


def adamw_from_groups(
    groups: list[Group],
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    fused: bool | None = None,
) -> torch.optim.AdamW:
    """Build AdamW for given parameter groups, each with its weight decay; see `adamw`.

    A group whose parameters are shared by different sets of processes becomes several.
    """
    if fused is None:
        devices = {parameter.device.type for group in groups for parameter in group["params"]}
        fused = devices <= {"cpu", "cuda"}
    groups = [group | {"params": params} for group in groups for params in by_mesh(group["params"])]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=fused)
