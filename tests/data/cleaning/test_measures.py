"""Shares and areas with intervals that keep their promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data.cleaning import auc, precision_recall

scores = st.lists(st.integers(-5, 5).map(float), min_size=2, max_size=13)


@given(scores, scores)
def test_auc_is_the_share_of_pairs_in_order(high: list[float], low: list[float]) -> None:
    pairs = [(h > l) + 0.5 * (h == l) for h in high for l in low]  # noqa: E741
    found = auc(np.array(high), np.array(low))
    assert found.value == pytest.approx(np.mean(pairs))
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def test_auc_interval_covers_the_truth_19_times_in_20() -> None:
    generator = np.random.default_rng(0)
    truth = 0.7602  # of two normals one standard deviation apart: Phi(1 / sqrt 2)
    found = [auc(generator.normal(1, 1, 41), generator.normal(0, 1, 67)) for _ in range(1000)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.92 < covered < 0.97


def test_precision_and_recall_count_the_right_things() -> None:
    score = precision_recall([True] * 3 + [False] * 4, [True] * 2 + [False] * 2 + [True] * 3)
    assert (score.precision.value, score.recall.value) == (2 / 5, 2 / 3)
    for labels, flags in (([False], [True]), ([True], [False])):
        with pytest.raises(ValueError, match="need an item"):
            precision_recall(labels, flags)
    with pytest.raises(ValueError, match="1 labels and 2 flags"):
        precision_recall([True], [True, False])
    with pytest.raises(ValueError, match="two items of each class"):
        auc(np.array([1.0]), np.array([1.0, 2.0]))
