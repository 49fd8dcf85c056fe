"""Answers of students that a check could misjudge: right ones refused, wrong ones, wrong blame."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.teaching.exercises import evaluate

Edits = list[tuple[int, int, int]]


def takes_the_edits(place: int, edits: Edits, sign: int = -1) -> int:
    shift = 0
    while edits:
        start, stop, length = edits.pop(0)
        if place < start + shift:
            break
        if place < start + shift + length:
            return start
        shift += length - (stop - start)
    return place + sign * shift


def by_a_map(place: int, edits: Edits) -> int:
    """Give every character of the new text its place: a deleted stretch then maps to its stop."""
    places: list[int] = []
    old = 0
    for start, stop, length in edits:
        places += [*range(old, start), *[start] * length]
        old = stop
    return places[place] if place < len(places) else old + place - len(places)


def removes_what_is_too_large(
    sizes: dict[int, float], layers: float, d: int, tied: bool = True, budget: float | None = None
) -> int | None:
    for size in list(sizes):
        if budget is not None and layers + (1 if tied else 2) * d * size > budget:
            del sizes[size]
    return min(sizes, key=lambda size: (layers + d * size) * sizes[size], default=None)


def only_the_list_works(sizes: dict[int, float], layers: float, d: int, **_: Any) -> int:
    return min(sizes, key=lambda size: d * size * sizes[size])


def half_turns(frequencies: Tensor, factor: float, trained: int) -> Tensor:
    kept = ((trained * frequencies / math.pi - 1) / 31).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / factor


def gradient_at_x(grad_y: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x.clone()


def complex_taps(factors: Tensor, weights: Tensor, length: int) -> Tensor:
    return 2 * (weights @ factors[:, None] ** torch.arange(length))


@pytest.mark.parametrize(("name", "answer"), [("place_before", by_a_map)])
def test_a_right_answer_passes(name: str, answer: Callable[..., Any]) -> None:
    outcome = evaluate(name, answer)
    assert outcome.status == "passed", outcome.message


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("place_before", takes_the_edits, "changes its argument 2 in place"),
        (
            "place_before",
            lambda place, edits: takes_the_edits(place, list(edits), sign=1),
            "the shift has the wrong sign",
        ),
        ("best_vocabulary", removes_what_is_too_large, "changes its argument 1 in place"),
        ("best_vocabulary", only_the_list_works, "layers work on every token of a byte"),
        ("matched_width", lambda d, n: round(8 * d / 3 / n) * n, "rounded down"),
        ("pareto_keep", lambda s, u, a: (1 - u) ** (1 / a) - 1 > 1 - s, "True is right, yours"),
        ("interpolate_by_parts", half_turns, "values differ"),
        ("rms_norm_backward", gradient_at_x, "a tuple is expected, yours is a tensor"),
        ("state_space_kernel", complex_taps, "`.real` leaves the imaginary part out"),
    ],
)
def test_a_wrong_answer_gets_its_own_diagnosis(
    name: str, answer: Callable[..., Any], message: str
) -> None:
    outcome = evaluate(name, answer)
    assert outcome.status == "wrong", outcome
    assert message in outcome.message
