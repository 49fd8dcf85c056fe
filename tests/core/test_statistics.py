"""Intervals against scipy, simulation and hand-made cases."""

import math

import numpy as np
import pytest
from scipy import stats

from llmlib.core.statistics import (
    Interval,
    bootstrap_interval,
    holm,
    paired_interval,
    t_interval,
    t_test,
    wilson,
)


def test_t_interval_is_scipys():
    values = np.random.default_rng(3).normal(5, 2, 7)
    for level in (0.8, 0.95):
        error = stats.sem(values)
        low, high = stats.t.interval(level, 6, loc=values.mean(), scale=error)
        assert t_interval(values, level) == pytest.approx((values.mean(), low, high), rel=1e-12)
    assert t_interval([1.0, 1.0]) == (1, 1, 1)


def test_t_intervals_hold_the_mean_as_often_as_they_say():
    draws = np.random.default_rng(0).normal(1.0, 3.0, (4000, 4))
    held = [found.low <= 1.0 <= found.high for found in map(t_interval, draws)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)
    # The normal factor, of which three seeds know nothing, holds it far too seldom.
    spread = 1.96 * draws.std(axis=1, ddof=1) / 2
    assert np.mean(abs(draws.mean(axis=1) - 1.0) < spread) < 0.9


@pytest.mark.parametrize("values", [[1.0], [], [1.0, math.nan], [1.0, math.inf], np.ones((2, 2))])
def test_values_without_a_spread_are_refused(values):
    with pytest.raises(ValueError, match="one a seed"):
        t_interval(values)


@pytest.mark.parametrize("interval", [t_test, bootstrap_interval])
@pytest.mark.parametrize("values", [[1.0, math.nan], [1.0, math.inf], np.ones((2, 2))])
def test_values_that_are_no_numbers_are_refused(interval, values):
    with pytest.raises(ValueError, match="a row of finite numbers"):
        interval(values)


@pytest.mark.parametrize("level", [0, 1, 95, -1, math.nan])
def test_a_level_that_is_no_share_is_refused(level):
    for interval in (lambda: wilson(3, 10, level), lambda: bootstrap_interval([1, 2], level=level)):
        with pytest.raises(ValueError, match="must lie between 0 and 1"):
            interval()


def test_pairs_cancel_what_the_seeds_share():
    seeds = np.array([0.0, 10.0, 20.0])
    found = paired_interval(seeds + [1.0, 1.1, 0.9], seeds)
    assert found.value == pytest.approx(1)
    assert found.shows_difference and not t_interval(seeds + 1).shows_difference
    assert paired_interval(seeds, seeds + [1.0, 1.1, 0.9]).high == pytest.approx(-found.low)
    with pytest.raises(ValueError, match="pair them"):
        paired_interval([1.0, 2.0], [1.0])


def test_no_numbers_show_nothing():
    nothing = Interval(math.nan, math.nan, math.nan)
    assert not nothing.shows_difference and not nothing.within(1.0)


def test_equal_differences_have_no_spread_whatever_rounding_does_to_their_mean():
    assert np.std([0.1] * 3) > 0
    assert t_test([0.1] * 3) == 0


def test_equality_needs_an_interval_inside_the_margin():
    assert Interval(0.0, -0.1, 0.1).within(0.2)
    assert not Interval(0.0, -0.3, 0.3).within(0.2)  # no difference shown, and no equality
    assert not Interval(0.1, 0.05, 0.25).within(0.2)
    assert not Interval(-0.1, -0.25, -0.05).within(0.2)
    with pytest.raises(ValueError, match="above zero"):
        Interval(0.0, -0.1, 0.1).within(0)


def test_t_test_agrees_with_the_interval():
    for differences in ([1.0, 2.0, 4.0], [-0.5, -0.4, -0.61, -0.3], [0.1, -0.2, 0.3]):
        shown = t_interval(differences).shows_difference
        assert (t_test(differences) < 0.05) == shown
    assert t_test([0.0, 0.0]) == 1
    assert t_test([2.0, 2.0]) == 0
    with pytest.raises(ValueError, match="two or more"):
        t_test([1.0])


def test_the_ends_of_wilsons_interval_are_the_shares_that_a_test_just_rejects():
    z = stats.norm.ppf(0.975)
    for successes, trials in ((0, 7), (3, 11), (13, 13), (501, 997), (1, 1)):
        found = wilson(successes, trials)
        assert found.value == successes / trials
        for end in (found.low, found.high):
            deviation = abs(successes / trials - end)
            assert deviation == pytest.approx(z * math.sqrt(end * (1 - end) / trials), abs=1e-9)
    assert wilson(0, 7).low == 0 < wilson(0, 7).high
    assert wilson(3, 11, 0.5).high < wilson(3, 11).high
    for successes, trials in ((8, 7), (-1, 7), (0, 0)):
        with pytest.raises(ValueError, match="no share"):
            wilson(successes, trials)


def test_bootstrap_agrees_with_t_where_both_hold_and_takes_any_statistic():
    values = np.random.default_rng(5).normal(3, 1, 101)
    mean = bootstrap_interval(values)
    assert mean == pytest.approx(t_interval(values), abs=0.02)
    assert mean == bootstrap_interval(values)
    assert mean != bootstrap_interval(values, seed=1)
    median = bootstrap_interval(values, np.median)
    assert median.value == np.median(values)
    assert median.high - median.low > mean.high - mean.low  # the median is less precise
    with pytest.raises(ValueError, match="no spread"):
        bootstrap_interval([1.0])


def test_holm_by_hand_and_in_simulation():
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])
    draws = np.random.default_rng(1).uniform(size=(4000, 6))  # nothing differs in truth
    assert np.mean([min(holm(row)) < 0.05 for row in draws]) == pytest.approx(0.05, abs=0.012)
    assert np.mean(draws.min(axis=1) < 0.05) > 0.2
