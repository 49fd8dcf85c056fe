"""Spikes are told from noise, and do not hide those behind them."""

import json
import math
import random
import statistics

import pytest

from llmlib.training.stability.spikes import SpikeDetector


def filled(losses: list[float], **settings: float) -> SpikeDetector:
    detector = SpikeDetector(**settings)  # pyright: ignore[reportArgumentType]
    for loss in losses:
        assert detector.sign(loss) is None
    return detector


@pytest.mark.covers("train.stability")
def test_the_allowed_rise_worked_by_hand() -> None:
    # Median 3; deviations 2, 1, 0, 1, 2 with median 1: six times 1.4826.
    detector = filled([1.0, 2.0, 3.0, 4.0, 5.0], window=7)
    assert detector.allowed_rise() == pytest.approx(6 * 1.4826)
    assert detector.sign(3 + 8.89) is None
    assert filled([1.0, 2.0, 3.0, 4.0, 5.0], window=7).sign(3 + 8.90) is not None


def test_a_flat_curve_allows_the_least_rise_and_no_more() -> None:
    assert filled([2.0] * 8, window=8, least=0.25).sign(2.2499) is None
    assert filled([2.0] * 8, window=8, least=0.25).sign(2.2501) is not None


@pytest.mark.covers("train.stability")
def test_a_spike_does_not_raise_the_bar_for_the_next() -> None:
    rng = random.Random(3)
    detector = filled([3 + rng.gauss(0, 0.02) for _ in range(16)], window=16)
    before = detector.state_dict()
    for _ in range(40):
        assert detector.sign(4.0) is not None
    assert detector.state_dict() == before


def test_few_false_alarms_on_noise_about_a_falling_curve() -> None:
    alarms = 0
    for seed in range(20):
        rng, detector = random.Random(seed), SpikeDetector()
        for step in range(500):
            loss = 3 + 4 * math.exp(-step / 60) + rng.gauss(0, 0.1)
            alarms += detector.sign(loss) is not None
    assert alarms <= 10, "one in a thousand steps"


def test_it_is_silent_until_half_the_window_is_filled() -> None:
    detector = SpikeDetector(window=12)
    for loss in (9.0, 1.0, 30.0, 2.0, 50.0):
        assert detector.sign(loss) is None
    assert detector.allowed_rise() == math.inf
    detector.sign(3.0)
    assert detector.allowed_rise() < math.inf


def test_the_window_forgets_what_is_old() -> None:
    detector = filled([8.0] * 6, window=6, least=0.5)
    for loss in (7.0, 6.0, 5.0, 4.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0):
        assert detector.sign(loss) is None
    assert detector.sign(8.0) is not None


@pytest.mark.parametrize("loss, norm", [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan)])
def test_what_is_no_number_is_a_spike_from_the_first_step(loss: float, norm: float) -> None:
    detector = SpikeDetector()
    sign = detector.sign(loss, norm)
    assert sign == (f"loss is {loss}" if norm == 1.0 else "gradient norm is nan")
    assert detector.state_dict() == {"losses": []}


def test_its_words_carry_the_numbers() -> None:
    sign = filled([1.0, 2.0, 3.0, 4.0, 5.0], window=7).sign(20.0)
    assert sign == (
        "loss 20.000 is 17.000 above the median 3.000 of the last 5 steps, allowed were 8.896"
    )


def test_it_goes_on_from_json() -> None:
    first = filled([3.0 + 0.01 * i for i in range(23)], window=13)
    second = SpikeDetector(window=13)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.allowed_rise() == first.allowed_rise()
    for loss in (3.1, 3.3, 3.2, 9.0):
        assert second.sign(loss) == first.sign(loss)
    assert statistics.median(second.state_dict()["losses"]) == pytest.approx(3.2, abs=0.05)


@pytest.mark.parametrize("settings", [{"window": 3}, {"threshold": 0.0}, {"least": 0.0}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        SpikeDetector(**settings)
