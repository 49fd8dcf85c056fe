"""Weights of mixtures against their definitions, and a sampler that keeps to them and resumes."""

import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data.mixing import (
    Curriculum,
    MixtureSampler,
    Stage,
    capped,
    epochs_of,
    proportional,
    temperature,
)

sizes_lists = st.lists(st.integers(1, 10**6), min_size=1, max_size=7)


@given(sizes_lists, st.floats(0.2, 50))
def test_temperature_by_definition(sizes: list[int], tau: float) -> None:
    raised = [(n / max(sizes)) ** (1 / tau) for n in sizes]
    np.testing.assert_allclose(temperature(sizes, tau), np.array(raised) / sum(raised), rtol=1e-9)
    np.testing.assert_allclose(proportional(sizes), np.array(sizes) / sum(sizes), rtol=1e-12)
    np.testing.assert_allclose(temperature(sizes, float("inf")), 1 / len(sizes))


@pytest.mark.covers("data.mixture")
@given(sizes_lists, st.floats(0.01, 3), st.floats(0.5, 8))
def test_capped_is_even_below_the_caps(sizes: list[int], share: float, most: float) -> None:
    budget = share * most * sum(sizes)
    weights = capped(sizes, budget, most)
    epochs = epochs_of(weights, sizes, min(budget, most * sum(sizes)))
    assert weights.sum() == pytest.approx(1) and (epochs <= most * (1 + 1e-9)).all()
    given_tokens = weights * min(budget, most * sum(sizes))
    below = epochs < most * (1 - 1e-9)
    if below.any():  # all sources below their cap get the same, those at it get no more than that
        even = given_tokens[below]
        np.testing.assert_allclose(even, even[0], rtol=1e-6)
        assert (given_tokens <= even[0] * (1 + 1e-9)).all()


def test_bad_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match="positive number of tokens"):
        proportional([3, 0])
    with pytest.raises(ValueError, match="tau=0 must be positive"):
        temperature([1, 2], 0)
    with pytest.raises(ValueError, match="must be positive"):
        capped([1, 2], 0, 3)
    with pytest.raises(ValueError, match="sum to one"):
        epochs_of([0.5, 0.4], [1, 1], 10)
    with pytest.raises(ValueError, match="2 weights for 3 sources"):
        epochs_of([0.5, 0.5], [1, 1, 1], 10)


@st.composite
def mixtures(draw: st.DrawFn) -> list[float]:
    raw = draw(st.lists(st.integers(0, 17), min_size=1, max_size=5).filter(any))
    return [n / sum(raw) for n in raw]


@pytest.mark.covers("data.mixture")
@given(mixtures(), st.integers(0, 200))
def test_draws_keep_to_the_weights(weights: list[float], draws: int) -> None:
    sampler = MixtureSampler([5] * len(weights), weights, seed=3)
    counts = np.bincount([next(sampler)[0] for _ in range(draws)], minlength=len(weights))
    ahead = counts - draws * np.array(weights)
    assert (ahead < 1).all() and (ahead >= -(len(weights) - 1) - 1e-9).all()
    assert counts.tolist() == sampler.drawn
    assert (counts[np.array(weights) == 0] == 0).all()


def test_every_epoch_reads_every_document_in_a_new_order() -> None:
    sampler = MixtureSampler([11, 7], [0.5, 0.5], seed=0)
    draws = [*islice(sampler, 44)]
    first = [place for source, place in draws if source == 0]
    assert sorted(first[:11]) == sorted(first[11:22]) == [*range(11)]
    assert first[:11] != first[11:22] != [*range(11)]
    assert sampler.epochs().tolist() == [2.0, 22 / 7]
    other = MixtureSampler([11, 7], [0.5, 0.5], seed=1)
    assert [*islice(other, 44)] != draws


def test_a_source_is_silent_while_its_weight_is_zero_and_then_gets_its_due() -> None:
    plan = Curriculum([Stage(2, [0.25] * 4), Stage(6, [0.5, 0.5, 0, 0]), Stage(2, [0.25] * 4)])
    sampler = MixtureSampler([5] * 4, plan.weights_at, seed=0)
    draws = [next(sampler)[0] for _ in range(10)]
    assert draws[:2] == [0, 1] and set(draws[2:8]) == {0, 1} and draws[8:] == [2, 3]


def test_weights_may_count_tokens() -> None:
    sampler = MixtureSampler([10, 10], [0.5, 0.5], seed=0, costs=[300.0, 100.0])
    counts = np.bincount([next(sampler)[0] for _ in range(400)])
    assert counts.tolist() == [100, 300]  # equal tokens


@pytest.mark.covers("data.mixture")
@given(st.integers(0, 60))
def test_resumes_exactly_also_within_a_curriculum(pause: int) -> None:
    plan = Curriculum([Stage(17, [0.7, 0.2, 0.1]), Stage(23, [0.1, 0.1, 0.8])], blend=5)

    def fresh() -> MixtureSampler:
        return MixtureSampler([5, 3, 7], plan.weights_at, seed=11)

    whole = [*islice(fresh(), 83)]
    begun = fresh()
    first = [*islice(begun, pause)]
    state = json.loads(json.dumps(begun.state_dict()))
    resumed = fresh()
    resumed.load_state_dict(state)
    assert first + [*islice(resumed, 83 - pause)] == whole


def test_a_state_of_other_sources_is_refused() -> None:
    state = MixtureSampler([5, 3], [0.5, 0.5], seed=0).state_dict()
    for sizes, seed in (([5, 4], 0), ([5, 3], 1)):
        with pytest.raises(ValueError, match="cannot continue"):
            MixtureSampler(sizes, [0.5, 0.5], seed=seed).load_state_dict(state)
    with pytest.raises(ValueError, match="3 weights for 2 sources"):
        MixtureSampler([5, 3], [0.2, 0.3, 0.5], seed=0)
    with pytest.raises(ValueError, match="every source needs a document"):
        MixtureSampler([5, 0], [0.5, 0.5], seed=0)
    with pytest.raises(ValueError, match="costs must be positive"):
        MixtureSampler([5, 3], [0.5, 0.5], seed=0, costs=[1.0])


@pytest.mark.covers("data.curriculum")
def test_stages_and_the_changes_between_them() -> None:
    stages = [Stage(7, [1, 0], "general"), Stage(5, [0.5, 0.5], "code"), Stage(3, [0, 1], "maths")]
    sudden, gradual = Curriculum(stages), Curriculum(stages, blend=3)
    assert [sudden.weights_at(s)[1] for s in (0, 6, 7, 11, 12, 14, 99)] == [0, 0, 0.5, 0.5, 1, 1, 1]
    ramp = [gradual.weights_at(s)[1] for s in range(6, 12)]
    np.testing.assert_allclose(ramp, [0, 1 / 6, 2 / 6, 0.5, 0.5, 0.5])
    assert sudden.steps == 15
    np.testing.assert_allclose(sudden.totals(), [9.5, 5.5])
    np.testing.assert_allclose(sudden.reversed().totals(), sudden.totals())
    assert sudden.reversed().stages[0].name == "maths"
    for plan in (sudden, gradual):
        control = plan.shuffled()
        np.testing.assert_allclose(control.totals(), plan.totals())
        assert np.ptp([control.weights_at(s)[0] for s in range(control.steps)]) == 0


def test_bad_curricula_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one stage"):
        Curriculum([])
    with pytest.raises(ValueError, match="blend=3 steps"):
        Curriculum([Stage(2, [1.0])], blend=3)
    with pytest.raises(ValueError, match="sum to one"):
        Curriculum([Stage(2, [0.5])])
    with pytest.raises(ValueError, match="same sources"):
        Curriculum([Stage(2, [1.0]), Stage(2, [0.5, 0.5])])
    with pytest.raises(ValueError, match="step=-1"):
        Curriculum([Stage(2, [1.0])]).weights_at(-1)
