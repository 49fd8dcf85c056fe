"""The order of skills: how it is measured."""

import numpy as np
import pytest
import torch
from torch import nn

from llmlib.data.mixing import MixtureSampler
from llmlib.experiments.curriculum_order import (
    BATCH,
    KEYS,
    MOST,
    ORDERS,
    TEXT_LENGTH,
    asked,
    lookups,
    order_of,
    perform,
    rows_of,
    told_right,
)


@pytest.mark.parametrize("n_keys", KEYS)
def test_a_value_can_be_told_if_and_only_if_its_key_stood_before(n_keys: int) -> None:
    texts, told = lookups(n_keys, 23, torch.Generator().manual_seed(3))
    for text, can in zip(texts.tolist(), told.tolist(), strict=True):
        meaning: dict[int, int] = {}
        for place in range(TEXT_LENGTH):
            if place % 2 == 0:
                key, value = text[place : place + 2]
                assert can[place] == (key in meaning)
                assert meaning.setdefault(key, value) == value  # one meaning within a text
            else:
                assert not can[place]
        assert len(meaning) <= n_keys and max(meaning) < MOST <= min(meaning.values())
    assert len({tuple(text) for text in texts.tolist()}) == 23


@pytest.mark.covers("data.curriculum")
def test_all_orders_but_alone_teach_the_same_amounts() -> None:
    totals = {order: order_of(order, 40).totals() for order in ORDERS}
    for order in ("staged", "mixed", "reversed"):
        np.testing.assert_allclose(totals[order], [10, 10, 10, 10])
    np.testing.assert_allclose(totals["alone"], [0, 0, 0, 40])
    sampler = MixtureSampler([7] * 4, order_of("staged", 40).weights_at, seed=0)
    assert [next(sampler)[0] for _ in range(40)] == [kind for kind in range(4) for _ in range(10)]
    with pytest.raises(ValueError, match="multiple of 4"):
        order_of("staged", 42)


def test_rows_follow_the_schedule() -> None:
    rows = rows_of(order_of("staged", 8), seed=1)
    for step in range(8):
        texts = rows(step)
        assert texts.shape == (BATCH, TEXT_LENGTH + 1)
        keys = [len(set(text[0::2].tolist())) for text in texts]
        assert max(keys) <= KEYS[step // 2] < 2 * max(keys)


class Reader(nn.Module):
    """Looks keys up, in the whole text or in the latest pairs alone."""

    def __init__(self, pairs: int = TEXT_LENGTH):
        super().__init__()
        self.pairs = pairs

    def forward(self, texts: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*texts.shape, 2 * MOST)
        for i, text in enumerate(texts.tolist()):
            for place in range(0, len(text), 2):
                for before in range(max(0, place - 2 * self.pairs), place, 2):
                    if text[before] == text[place]:
                        logits[i, place, text[before + 1]] = 1
        return logits


def test_values_are_counted_that_can_be_told() -> None:
    assert told_right(Reader(), 8) == 1.0
    texts, told = asked(8)
    near = told_right(Reader(pairs=1), 8)
    repeats = (texts[:, 2:-1:2] == texts[:, 0:-3:2]).sum().item()
    assert near == pytest.approx(repeats / told.sum().item(), abs=0.03)
    assert told_right(nn.Sequential(nn.Embedding(2 * MOST, 2 * MOST)), 16) < 0.15


def test_a_run_of_twelve_steps() -> None:
    found = perform({"order": "staged", "seed": 0}, steps=12)
    assert set(found["told_right"]) == {"2", "4", "8", "16"}
    assert found["tokens"] == 12 * 16 * 64 and found["chance"] == 1 / 16
    assert len(found["on_the_way"]) == 12
