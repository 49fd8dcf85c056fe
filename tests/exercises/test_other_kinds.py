"""The right values in another kind: a list for a tensor, an array, a number of another width."""

import functools
import runpy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmlib.core.resources import resource
from llmlib.teaching.authoring import Exercise
from llmlib.teaching.catalogue import entries, find_exercise

Convert = Callable[[Any], Any]


def _inside(value: Any, convert: Convert, kinds: tuple[type, ...]) -> Any:
    """Convert what is of some kinds, however deep it lies in lists, tuples and dictionaries."""
    if isinstance(value, kinds) and not isinstance(value, bool):
        return convert(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_inside(item, convert, kinds) for item in value)
    if isinstance(value, dict):
        return {key: _inside(item, convert, kinds) for key, item in value.items()}
    return value


def _lists(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().numpy()
    if isinstance(value, list):
        same = len({type(item) for item in value}) == 1
        flat = same and isinstance(value[0], (int, float, str))
        return np.array(value) if flat else [_array(item) for item in value]
    return np.asarray(value)[()]


def _tensor(value: Any) -> Any:
    if isinstance(value, list):
        same = {type(item) for item in value} <= {int} or {type(item) for item in value} <= {float}
        return torch.tensor(value) if value and same else [_tensor(item) for item in value]
    if isinstance(value, (int, float)):
        return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    return value


def _wide(dtype: torch.dtype) -> Convert:
    def convert(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(dtype) if value.is_floating_point() else value
        return torch.tensor(value, dtype=dtype)

    return convert


def _other_integer(value: Any) -> Any:
    if isinstance(value, Tensor):
        whole = not (value.is_floating_point() or value.dtype == torch.bool)
        return (
            value.to(torch.int32 if value.abs().max() < 2**31 else torch.float64)
            if whole
            else value
        )
    return float(value)


KINDS: dict[str, Convert] = {
    "lists": lambda value: _inside(value, _lists, (tuple, Tensor)),
    "tuples": lambda value: _inside(value, _tuples, (list, Tensor)),
    "NumPy": lambda value: _inside(value, _array, (Tensor, list, int, float)),
    "tensors": lambda value: _inside(value, _tensor, (list, int, float)),
    "float64": lambda value: _inside(value, _wide(torch.float64), (Tensor, float)),
    "float32": lambda value: _inside(value, _wide(torch.float32), (Tensor, float)),
    "another integer": lambda value: _inside(value, _other_integer, (Tensor, int)),
}
DIFFERENTIATED = ("balance_loss",)
HALVED = ("remembering_update",)  # what is asked for is the format: bfloat16
MEASURED = ("online_softmax_attention", "retention_in_chunks", "sparse_mixture", "sliced_losses")
NAMES = [entry.name for entry in entries()]


def in_kind(name: str, kind: str) -> Any:
    """Return the solution of an exercise, which gives its result in another kind."""
    entry = next(entry for entry in entries() if entry.name == name)
    path = resource(f"solutions/{entry.chapter}/{name}.py")
    solution = runpy.run_path(str(path))[find_exercise(name).symbol]
    return functools.wraps(solution)(lambda *args, **kwargs: KINDS[kind](solution(*args, **kwargs)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in MEASURED])
def test_a_right_answer_of_another_kind_passes(name: str, kind: str) -> None:
    if name in DIFFERENTIATED and not kind.startswith("float"):
        pytest.skip("only a tensor has a gradient")
    if name in HALVED and kind not in ("tensors", "another integer"):
        pytest.skip("the format is asked for")
    outcome = find_exercise(name).evaluate(in_kind(name, kind))
    assert outcome.status == "passed", outcome.message


@pytest.mark.parametrize("kind", ["lists", "float32", "float64"])
@pytest.mark.parametrize("name", HALVED)
def test_where_a_format_is_asked_for_another_one_is_named(name: str, kind: str) -> None:
    outcome = find_exercise(name).evaluate(in_kind(name, kind))
    assert outcome.status == "wrong"
    assert "kept in bfloat16" in outcome.message


@pytest.mark.parametrize("name", MEASURED)
def test_where_tensors_are_measured_an_array_is_refused(name: str) -> None:
    outcome = find_exercise(name).evaluate(in_kind(name, "NumPy"))
    assert outcome.status == "wrong"
    assert "a tensor is expected, yours is a NumPy array" in outcome.message


def test_exactly_the_measured_say_that_the_kind_counts() -> None:
    exercises: list[Exercise] = [find_exercise(name) for name in NAMES]
    assert sorted(exercise.name for exercise in exercises if exercise.kind) == sorted(MEASURED)
