"""Sampling: exact distributions on hand-made logits, ties, limits, and the draw."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmlib.utilization import (
    GREEDY,
    Sampling,
    apply_temperature,
    choose,
    filter_logits,
    keep_top_k,
    keep_top_p,
)

P = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])


def distribution(sampling: Sampling, logits: torch.Tensor | None = None) -> torch.Tensor:
    return filter_logits(P.log() if logits is None else logits, sampling).softmax(-1)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(), [0.05, 0.4, 0.1, 0.3, 0.15]),
        (Sampling(temperature=0.5), [x * x / 0.285 for x in (0.05, 0.4, 0.1, 0.3, 0.15)]),
        (Sampling(top_k=2), [0, 4 / 7, 0, 3 / 7, 0]),
        (Sampling(top_k=1), [0, 1, 0, 0, 0]),
        (Sampling(top_k=99), [0.05, 0.4, 0.1, 0.3, 0.15]),
        (Sampling(top_p=0.39), [0, 1, 0, 0, 0]),
        (Sampling(top_p=0.69), [0, 4 / 7, 0, 3 / 7, 0]),
        (Sampling(top_p=0.71), [0, 40 / 85, 0, 30 / 85, 15 / 85]),
        (Sampling(top_p=1.0), [0.05, 0.4, 0.1, 0.3, 0.15]),
        (Sampling(top_p=1e-9), [0, 1, 0, 0, 0]),
        # The nucleus is taken of what top-k left: 4/7 alone reaches 0.5 there.
        (Sampling(top_k=2, top_p=0.5), [0, 1, 0, 0, 0]),
        # The temperature comes first: squared, the best token has 0.16 / 0.285 = 0.56.
        (Sampling(temperature=0.5, top_p=0.5), [0, 1, 0, 0, 0]),
        (Sampling(temperature=0), [0, 1, 0, 0, 0]),
    ],
)
def test_distributions_by_hand(sampling: Sampling, expected: list[float]) -> None:
    torch.testing.assert_close(distribution(sampling), torch.tensor(expected).float())


def test_ties() -> None:
    tied = torch.tensor([0.1, 0.3, 0.3, 0.3]).log()
    kept_k = keep_top_k(tied, 2).isfinite()
    assert kept_k.tolist() == [False, True, True, True]  # no token is preferred for its id
    kept_p = keep_top_p(tied, 0.5).isfinite()
    assert kept_p.tolist() == [False, True, True, False]  # the fewest that reach 0.5
    assert choose(torch.zeros(2, 5), GREEDY, torch.zeros(2)).tolist() == [0, 0]


def test_top_p_of_one_keeps_the_rarest_token() -> None:
    logits = torch.tensor([0.0, -40.0, -80.0])
    assert keep_top_p(logits, 1.0) is logits
    assert keep_top_p(logits, 1).isfinite().all()


def test_low_temperature_tends_to_greedy() -> None:
    logits = torch.tensor([[0.3, 1.1, 1.0, -2.0]])
    cold = distribution(Sampling(temperature=1e-3), logits)
    torch.testing.assert_close(cold, distribution(GREEDY, logits))
    assert distribution(Sampling(temperature=1e30), logits).tolist()[0] == pytest.approx([0.25] * 4)


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=23), st.floats(0.01, 1), st.integers(1, 7))
def test_nucleus_is_the_smallest_set_that_reaches_p(values: list[float], p: float, k: int) -> None:
    logits = torch.tensor(values)
    probability = logits.softmax(-1)
    kept = keep_top_p(logits, p).isfinite()
    mass = probability[kept].sum().item()
    assert mass >= p - 1e-5
    if kept.sum() > 1:
        assert mass - probability[kept].min().item() < p + 1e-5
    if not kept.all():
        assert logits[kept].min() >= logits[~kept].max()
    assert keep_top_k(logits, k).isfinite().sum() >= min(k, len(values))


def test_the_draw_inverts_the_distribution() -> None:
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    chosen = choose(P.log().expand(2000, -1), Sampling(), grid)
    share = chosen.bincount(minlength=5) / 2000
    torch.testing.assert_close(share, P, atol=1e-3, rtol=0)


def test_the_draw_never_takes_an_excluded_token() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0, -math.inf]]).expand(3, -1)
    edge = torch.tensor([0.0, 1.0 - 2**-53, 1.0], dtype=torch.float64)
    assert choose(logits, Sampling(), edge).tolist() == [1, 3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


def test_bad_arguments_of_the_filters_are_named() -> None:
    with pytest.raises(ValueError, match="0 means argmax"):
        apply_temperature(P, 0)
    with pytest.raises(ValueError, match="top_k"):
        keep_top_k(P, 0)
    with pytest.raises(ValueError, match="top_p"):
        keep_top_p(P, 0.0)
    with pytest.raises(ValueError, match="NaN"):
        choose(torch.full((1, 3), math.nan), GREEDY, torch.zeros(1))
