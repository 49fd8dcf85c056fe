"""Measure a call of an answer where the answer runs: its memory, its gradient, its use of autograd.

A submission being graded measures itself, so these are diagnoses and no proof.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks

from llmlib.core.hardware.memory import tracked_allocations


def peak_bytes(answer: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Count the bytes of tensors that a call holds at once, as `llmlib.core.tracked_allocations`.

    What NumPy holds is not counted: an exercise that asks for it says `kind=True`.
    """
    return _measured("peak", answer, args, kwargs)


def gradient(answer: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor | None:
    """Differentiate the number that a call returns at its first argument; None without a graph."""
    return _measured("gradient", answer, args, kwargs)


def differentiates(answer: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Tell whether a call lets torch differentiate: it records a graph, or carries tangents."""
    return _measured("graph", answer, args, kwargs)


def copied(value: Any) -> Any:
    """Copy containers and tensors; share anything that can be called."""
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item) for item in value)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return value if callable(value) else copy.deepcopy(value)


def _measured(name: str, answer: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    if remote := getattr(type(answer), "measured_remote", None):
        return remote(answer, name, *args, **kwargs)
    return MEASURES[name](answer, *copied(args), **copied(kwargs))


def _peak(answer: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    with tracked_allocations() as memory:
        answer(*args, **kwargs)
    return memory.peak_bytes


def _gradient(answer: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Tensor | None:
    x = x.detach().requires_grad_()
    value = answer(x, *args, **kwargs)
    if not (isinstance(value, Tensor) and value.requires_grad):
        return None
    return torch.autograd.grad(value, x, allow_unused=True)[0]


def _graph(answer: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    seen: list[str] = []
    make_dual = forward_ad.make_dual

    def saved(x: Tensor) -> Tensor:
        seen.append("backward")
        return x

    def dual(*args: Any, **kwargs: Any) -> Any:
        seen.append("forward")
        return make_dual(*args, **kwargs)

    try:
        with saved_tensors_hooks(saved, lambda x: x), patch.object(forward_ad, "make_dual", dual):
            answer(*args, **kwargs)
    except RuntimeError as error:  # how torch.func refuses the hooks; by hand nobody meets it
        if "saved tensor hooks" not in str(error):
            raise
        seen.append("backward")
    return bool(seen)


MEASURES: dict[str, Callable[..., Any]] = {"peak": _peak, "gradient": _gradient, "graph": _graph}
"""By the name under which the grader asks for it; each calls the answer it is given."""
