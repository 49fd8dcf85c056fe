"""The order of skills: how it is measured."""

import random

import numpy as np
import pytest
import torch

from llmlib.core.batch import IGNORE
from llmlib.data.mixing import Curriculum
from llmlib.experiments.data.curriculum_order import (
    BATCH,
    LENGTHS,
    ORDERS,
    batches,
    curriculum,
    draw,
    measure,
)
from llmlib.experiments.data.digit_tokens import held_out


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
        assert ((targets != IGNORE).sum(dim=1) >= 2).all()  # an answer and its end
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
    found = measure({"order": "staged", "seed": 0}, steps=(1, 2), n_tests=17)
    assert set(found["accuracy"]) == {"1", "2"}
    assert found["sums_seen"] == [64, 128]
    assert isinstance(curriculum("mixed"), Curriculum)
