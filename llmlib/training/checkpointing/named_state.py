"""A model's and an optimizer's tensors under names, so that a file can hold them."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from llmlib.training.distributed import fill, whole
from llmlib.training.engine.split_products import row_orders


@runtime_checkable
class AnyOptimizer(Protocol):
    """What the trainer and the checkpoints need of an optimizer."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters with their settings."""
        ...

    @property
    def state(self) -> Mapping[Tensor, Any]:
        """Tensors kept for each parameter, by name."""
        ...

    def step(self) -> Any:
        """Update the parameters."""
        ...

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        ...


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's whole parameters and persistent buffers, a tied one once.

    If the model is sharded, every process must ask together.
    """
    orders = row_orders(model)
    return {
        name: _restored(tensor, orders.get(name)) for name, tensor in unique_tensors(model).items()
    }


def load_model_tensors(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Copy what `model_tensors` returned into a model of the same configuration.

    Raises:
        ValueError: When names or shapes differ; the model is then as before.
    """
    own, orders = unique_tensors(model), row_orders(model)
    require_fit(own, {name: tensor.shape for name, tensor in saved.items()})
    for name, tensor in own.items():
        fill(tensor, _reordered(saved[name], orders.get(name)))


def require_fit(own: Mapping[str, Tensor], saved: Mapping[str, torch.Size]) -> None:
    """Refuse saved tensors whose names or shapes are not the model's."""
    _require_equal_names(own.keys(), saved.keys())
    for name, tensor in own.items():
        if tensor.shape != saved[name]:
            raise ValueError(
                f"{name} has shape {tuple(saved[name])}, the model wants {tuple(tensor.shape)}"
            )


def optimizer_tensors(model: nn.Module, optimizer: AnyOptimizer) -> dict[str, Tensor]:
    """Return the optimizer's state as whole tensors, named as in `embedding.weight.exp_avg`."""
    orders = row_orders(model)
    return {
        f"{name}.{key}": _restored(value, orders.get(name) if value.ndim else None)
        for name, state in named_states(model, optimizer).items()
        for key, value in state.items()
    }


def named_states(model: nn.Module, optimizer: AnyOptimizer) -> dict[str, dict[str, Tensor]]:
    """Return what an optimizer keeps for each parameter, plain or sharded, by parameters' names."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: state for parameter, state in optimizer.state.items()}


def load_optimizer_tensors(
    model: nn.Module, optimizer: AnyOptimizer, saved: Mapping[str, Tensor]
) -> None:
    """Put what `optimizer_tensors` returned into an optimizer; its settings stay as they are.

    A tensor that is sharded already, as its parameter is, is taken as it comes.

    Raises:
        ValueError: When the state belongs to a parameter that the optimizer does not update.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    orders = row_orders(model)
    by_parameter: dict[str, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        parameter_name, _, key = name.rpartition(".")
        by_parameter.setdefault(parameter_name, {})[key] = tensor
    for single in getattr(optimizer, "optimizers", [optimizer]):
        parameters = [p for group in single.param_groups for p in group["params"]]
        states = {
            index: {key: _like(parameter, value, orders.get(name)) for key, value in found.items()}
            for index, parameter in enumerate(parameters)
            if (found := by_parameter.pop(name := names[id(parameter)], None))
        }
        # torch's own method moves each tensor to where that optimizer keeps it.
        single.load_state_dict(
            {"state": states, "param_groups": single.state_dict()["param_groups"]}
        )
    if by_parameter:
        raise ValueError(f"there is state for parameters unknown here: {_some(by_parameter)}")


def unique_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state dictionary without the second names of tied tensors."""
    seen: set[int] = set()
    unique: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor
    return unique


def _restored(tensor: Tensor, order: Tensor | None) -> Tensor:
    """Return a tensor in one piece, its rows as they lie in the whole model."""
    full = whole(tensor)
    return full.contiguous() if order is None else full[order.argsort()]


def _reordered(full: Tensor, order: Tensor | None) -> Tensor:
    return full if order is None else full[order]


def _like(parameter: Tensor, value: Tensor, order: Tensor | None) -> Tensor:
    """Shard a saved state tensor as its parameter is sharded; counters stay whole."""
    if isinstance(value, DTensor):
        return value
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        if value.ndim and value.shape != parameter.shape:
            raise ValueError(
                f"optimizer state of shape {tuple(value.shape)} does not fit a parameter of "
                f"shape {tuple(parameter.shape)}"
            )
        return value
    return distribute_tensor(
        _reordered(value, order).to(parameter.device), parameter.device_mesh, parameter.placements
    )


def _require_equal_names(own: Any, saved: Any) -> None:
    missing, unknown = sorted(own - saved), sorted(saved - own)
    if missing or unknown:
        parts = [f"lacks {_some(missing)}"] * bool(missing)
        parts += [f"has unknown tensors {_some(unknown)}"] * bool(unknown)
        raise ValueError(" and ".join(parts))


def _some(names: Any) -> str:
    """Name the first few."""
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
