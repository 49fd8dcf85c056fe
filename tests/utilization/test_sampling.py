"""Sampling: exact distributions on hand-made logits, ties, limits, and the draw."""

import math
from fractions import Fraction
from itertools import permutations
from typing import Any

import jaxtyping
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


HALVES = (torch.float16, torch.bfloat16)
COLD = (1e-2, 1e-4, 1e-30, 1e-38, 1e-45, 1e-46, 1e-308, 5e-324)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", COLD)
@pytest.mark.parametrize("offset", [-40.0, -0.0, 0.0, 40.0, 3e4])
def test_the_coldest_is_greedy(temperature: float, dtype: torch.dtype, offset: float) -> None:
    logits = torch.tensor([[0.0, 32.0, 0.0, -64.0, -math.inf]]).add(offset).to(dtype)
    for top_k, top_p in ((None, None), (None, 0.9), (3, 1.0)):
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        kept = filter_logits(logits, sampling)
        assert kept.softmax(-1)[0].tolist() == [0, 1, 0, 0, 0]
        draws = torch.tensor([0.0, 0.5, 1 - 2**-24])
        assert choose(logits.expand(3, -1), sampling, draws).tolist() == [1, 1, 1]


def test_the_coldest_shares_among_the_best() -> None:
    tied = torch.tensor([[7.0, 2.0, 7.0]])
    grid = torch.tensor([0.2, 0.7])
    for temperature in COLD:
        assert choose(tied.expand(2, -1), Sampling(temperature=temperature), grid).tolist() == [
            0,
            2,
        ]
        assert distribution(Sampling(temperature=temperature, top_p=0.9), tied)[0, 2] == 0.5


def test_the_hottest_flattens_what_is_possible() -> None:
    logits = torch.tensor([[9.0, -math.inf, -9.0]])
    for temperature in (1e30, 1e300):
        assert distribution(Sampling(temperature=temperature), logits).tolist() == [[0.5, 0, 0.5]]


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_a_temperature_is_applied_in_float32(dtype: torch.dtype) -> None:
    logits = torch.tensor([[5.0, 4.0, -3.0]]).to(dtype)
    got = filter_logits(logits, Sampling(temperature=3))
    assert got.tolist() == (torch.tensor([[5.0, 4.0, -3.0]]) / 3).tolist()


@pytest.mark.parametrize("temperature", [1e-30, 0.7, 1, 1e300])
def test_infinite_logits_take_all(temperature: float) -> None:
    draws = torch.tensor([0.0, 0.3, 0.7, 1 - 2**-24])
    one = torch.tensor([[1.0, math.inf, -math.inf, 2.0]]).expand(4, -1)
    two = torch.tensor([[1.0, math.inf, -math.inf, math.inf]]).expand(4, -1)
    for top_k, top_p in ((None, None), (3, None), (None, 0.9), (9, 1.0)):
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        assert choose(one, sampling, draws).tolist() == [1] * 4
        assert choose(two, sampling, draws).tolist() == [1, 1, 3, 3]
    assert choose(two, GREEDY, draws).tolist() == [1] * 4
    assert keep_top_p(one, 0.9).isinf().all()
    assert keep_top_p(one, 0.9)[0].tolist() == [-math.inf, math.inf, -math.inf, -math.inf]


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(), Sampling(top_k=2), Sampling(top_p=0.5)])
def test_rows_without_a_distribution_are_named(sampling: Sampling, dtype: torch.dtype) -> None:
    logits = torch.zeros(4, 5, dtype=dtype)
    for value, message in ((math.nan, "NaN"), (-math.inf, "no logits above -inf")):
        bad = logits.clone()
        bad[2] = value
        with pytest.raises(ValueError, match=rf"{message} in rows \[2\]"):
            choose(bad, sampling, torch.zeros(4))
        with pytest.raises(ValueError, match=message):
            filter_logits(bad, sampling)
    bad[2, 1] = math.nan
    for rule in (lambda z: apply_temperature(z, 1), lambda z: keep_top_k(z, 2)):
        with pytest.raises(ValueError, match="NaN"):
            rule(bad)
    with pytest.raises(ValueError, match="NaN"):
        keep_top_p(bad, 1)
    with pytest.raises(ValueError, match="vocabulary is empty"):
        choose(logits[:, :0], sampling, torch.zeros(4))


def nucleus(shares: list[Fraction], p: Fraction) -> set[int]:
    """The fewest most probable tokens whose mass is at least p, in exact arithmetic."""
    mass, kept = Fraction(0), set()
    for i in sorted(range(len(shares)), key=lambda i: (-shares[i], i)):
        if mass >= p:
            break
        mass += shares[i]
        kept.add(i)
    return kept


def kept_by(shares: list[Fraction], p: Fraction, dtype: torch.dtype, shift: float = 0) -> set[int]:
    logits = torch.tensor([math.log(share) + shift for share in shares], dtype=dtype)
    return set(keep_top_p(logits, float(p)).isfinite().nonzero().flatten().tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0, 3])
def test_a_nucleus_that_reaches_p_exactly(dtype: torch.dtype, shift: float) -> None:
    tenths = [(5, 3, 2), (5, 3, 1, 1), (4, 3, 2, 1), (1,) * 10, (3, 3, 3, 1), (2, 2, 2, 2, 1, 1)]
    for parts in tenths:
        for order in set(permutations(parts)) if len(parts) < 7 else [parts]:
            shares = [Fraction(part, 10) for part in order]
            for p in (Fraction(n, 10) for n in range(1, 11)):
                assert kept_by(shares, p, dtype, shift) == nucleus(shares, p), (order, p)
                just_over = p + Fraction(1, 100_000)
                if just_over < 1:
                    assert kept_by(shares, just_over, dtype, shift) == nucleus(shares, just_over)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_nucleus_of_thousands(dtype: torch.dtype) -> None:
    n = 50_000
    even = [Fraction(1, n)] * n
    two_kinds = [Fraction(3 if i % 2 else 1, 2 * n) for i in range(n)]
    for share in (
        Fraction(1, 2),
        Fraction(1, 10),
        Fraction(3, 4),
        Fraction(9, 10),
        Fraction(99, 100),
    ):
        assert kept_by(even, share, dtype) == nucleus(even, share)
        assert kept_by(two_kinds, share, dtype) == nucleus(two_kinds, share)
    for half in HALVES:
        kept = keep_top_p(torch.zeros(2, n, dtype=half), 0.5).isfinite().sum()
        assert 1 - 2 * torch.finfo(half).eps <= kept / n <= 1  # short by the rounding at most


@pytest.mark.parametrize("half", HALVES)
def test_a_nucleus_in_half_precision(half: torch.dtype) -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).to(half).log()
    for rule in (
        lambda p: keep_top_p(logits, p),
        lambda p: filter_logits(logits, Sampling(top_p=p)),
    ):
        assert rule(0.8).isfinite().tolist() == [True, True, False]
        assert rule(0.83).isfinite().all()
    over = Fraction(3 * torch.finfo(half).eps)
    for parts in [(5, 3, 2), (5, 3, 1, 1), (4, 3, 2, 1), (9, 1), (1,) * 10, (3, 3, 3, 1)]:
        shares = [Fraction(part, 10) for part in parts]
        for p in (Fraction(n, 10) for n in range(1, 10)):
            assert kept_by(shares, p, half) == nucleus(shares, p), (parts, p)
            assert kept_by(shares, p + over, half) == nucleus(shares, p + over), (parts, p)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(1, 11))
def test_nuclei_of_whole_parts(parts: list[int], at: int) -> None:
    shares = [Fraction(part, sum(parts)) for part in parts]
    p = sum(sorted(shares, reverse=True)[:at], Fraction(0))
    for dtype in (torch.float32, torch.float64):
        if p < 1:
            assert kept_by(shares, p, dtype) == nucleus(shares, p)


def test_rows_of_a_batch_keep_their_own_numbers() -> None:
    logits = torch.stack([torch.zeros(7), torch.arange(7.0), torch.tensor([0.0] + [-math.inf] * 6)])
    for sampling in (Sampling(top_k=3), Sampling(top_p=0.5), Sampling(temperature=1e-30)):
        together = filter_logits(logits, sampling)
        for row, alone in zip(together, logits, strict=True):
            assert torch.equal(row, filter_logits(alone, sampling))


def test_tiny_top_p_keeps_the_best() -> None:
    for dtype in (*HALVES, torch.float32, torch.float64):
        kept = keep_top_p(torch.tensor([0.0, 2.0, 1.0], dtype=dtype), 1e-300).isfinite()
        assert kept.tolist() == [False, True, False]


def test_negative_zero_ties_with_zero() -> None:
    logits = torch.tensor([[-0.0, 0.0, -1.0]])
    assert keep_top_k(logits, 1).isfinite().tolist() == [[True, True, False]]
    assert keep_top_p(logits, 0.1).isfinite().tolist() == [[True, False, False]]
    assert choose(logits, GREEDY, torch.zeros(1)).tolist() == [0]


def test_the_draws_numbers_are_checked() -> None:
    for value in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            choose(torch.zeros(1, 3), Sampling(), torch.tensor([value]))


@pytest.fixture
def unchecked_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the tests nothing checks the annotations."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.usefixtures("unchecked_types")
def test_values_of_another_type_are_named() -> None:
    top_k: Any = 2.5
    with pytest.raises(ValueError, match="top_k must be a whole number"):
        Sampling(top_k=top_k)
    for sampling in (GREEDY, Sampling()):
        for uniform in (torch.zeros(1), torch.zeros(3), torch.zeros(2, 1), torch.tensor(0.5)):
            with pytest.raises(ValueError, match="for each of 2 rows"):
                choose(torch.zeros(2, 3), sampling, uniform)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": math.nan}, "top_p"),
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
    with pytest.raises(ValueError, match="must be positive"):
        apply_temperature(P, math.nan)
    with pytest.raises(ValueError, match="top_k"):
        keep_top_k(P, 0)
    with pytest.raises(ValueError, match="top_p"):
        keep_top_p(P, 0.0)
    with pytest.raises(ValueError, match="NaN"):
        choose(torch.full((1, 3), math.nan), GREEDY, torch.zeros(1))
