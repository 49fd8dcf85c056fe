"""The order of skills: how it is measured, and what the committed runs say."""

import random

import numpy as np
import pytest
import torch

from llmlib.core.statistics import t_interval
from llmlib.data.mixing import Curriculum
from llmlib.experiments.data.curriculum_order import (
    BATCH,
    LENGTHS,
    ORDERS,
    SEEDS,
    batches,
    curriculum,
    draw,
    perform,
    plan,
)
from llmlib.experiments.data.digit_tokens import held_out
from llmlib.experiments.records import read_runs

NAME = "curriculum_order"


def shares(order: str, digits: int) -> list[float]:
    runs = {(run["order"], run["seed"]): run["accuracy"] for run in read_runs(NAME)}
    return [runs[order, seed][str(digits)] for seed in SEEDS]


def difference(first: str, second: str, digits: int) -> tuple[float, float, float]:
    pairs = zip(shares(first, digits), shares(second, digits), strict=True)
    return t_interval([a - b for a, b in pairs])


def test_all_orders_but_alone_teach_the_same_amounts() -> None:
    totals = {order: curriculum(order, (10, 30)).totals() for order in ORDERS}
    for order in ("staged", "mixed", "reversed"):
        np.testing.assert_allclose(totals[order], [10, 30])
    np.testing.assert_allclose(totals["alone"], [0, 40])
    assert curriculum("staged", (10, 30)).weights_at(9)[0] == 1
    assert curriculum("reversed", (10, 30)).weights_at(9)[0] == 0
    with pytest.raises(ValueError, match="'sideways' is none of"):
        curriculum("sideways")


def lengths_of(rows: torch.Tensor) -> list[int]:
    """Digits of the first number of each row: the place of the plus sign."""
    return [row.index(1) for row in rows.tolist()]


def test_batches_follow_the_curriculum_and_keep_the_held_out_sums() -> None:
    seen: list[list[int]] = []
    for batch in batches(curriculum("staged", (2, 3)), seed=5):
        rows, targets = batch["inputs"], batch["targets"]
        seen.append(lengths_of(rows))
        assert ((targets != -100).sum(dim=1) >= 2).all()  # an answer and its end
        for row in rows.tolist():
            plus, equals = row.index(1), row.index(2)
            a, b = (int("".join(str(i - 3) for i in part))
                    for part in (row[:plus], row[plus + 1 : equals]))  # fmt: skip
            assert not held_out((a, b))
    assert seen == [[1] * BATCH] * 2 + [[2] * BATCH] * 3
    shuffled = batches(curriculum("mixed", (2, 3)), 5)
    mixed = [n for batch in shuffled for n in lengths_of(batch["inputs"])]
    assert 0.5 < np.mean(np.array(mixed) == 2) < 0.7


def test_sums_have_the_digits_asked_for() -> None:
    rng = random.Random(1)
    for digits in LENGTHS:
        for test in (True, False):
            pairs = [draw(rng, digits, test=test) for _ in range(53)]
            assert {len(str(n)) for pair in pairs for n in pair} == {digits}
            assert {held_out(pair) for pair in pairs} == {test}


def test_a_run_of_three_steps() -> None:
    found = perform({"order": "staged", "seed": 0}, steps=(1, 2), n_tests=17)
    assert set(found["accuracy"]) == {"1", "2"}
    assert found["sums_seen"] == [64, 128]
    assert isinstance(curriculum("mixed"), Curriculum)


def test_the_record_is_whole() -> None:
    runs = read_runs(NAME)
    assert [{key: run[key] for key in ("order", "seed")} for run in runs] == list(plan())
    assert {tuple(run["sums_seen"]) for run in runs if run["order"] != "alone"} == {(25600, 64000)}
    assert len({run["parameters"] for run in runs}) == 1


@pytest.mark.covers("data.curriculum")
def test_the_order_from_easy_to_hard_does_not_beat_the_mixture() -> None:
    mean, low, high = difference("staged", "mixed", 2)
    assert low < mean < high < 0
    assert mean < -0.2
    assert min(shares("mixed", 2)) > 0.7


@pytest.mark.covers("data.curriculum")
def test_what_came_first_is_forgotten() -> None:
    for order, digits in (("staged", 1), ("reversed", 2)):
        _, _, high = difference(order, "mixed", digits)
        assert high < -0.7
    assert max(shares("reversed", 2)) < 0.01


@pytest.mark.covers("data.curriculum")
def test_two_digits_alone_learn_two_digits_best() -> None:
    """The prerequisite is not needed: every sum of two digits holds two of one digit."""
    mean, low, _ = difference("alone", "staged", 2)
    assert low > 0
    assert mean > 0.2
    assert difference("alone", "mixed", 2)[1] < 0  # from the mixture it cannot be told
