"""Published schedules at points worked by hand from the papers' sentences."""

from math import cos, pi

import pytest

from llmlib.core.survey.tables import load_table
from llmlib.training.batches.published import (
    published_batch,
    published_rate,
    unstated,
    updates_after,
)
from llmlib.training.batches.ramp import BatchRamp

B, M = 10**9, 10**6


@pytest.mark.covers("train.lr")
@pytest.mark.parametrize(
    ("model", "points"),
    [
        # 375 million tokens up; a cosine to a tenth at 260 billion, where it stays.
        ("GPT-3", {0: 0, 125 * M: 2e-5, 375 * M: 6e-5, 260 * B: 6e-6, 300 * B: 6e-6}),
        # The cosine's middle lies between 0.375 and 410 billion.
        ("BLOOM", {375 * M: 6e-5, 205_187_500_000: 6e-5 * 0.55, 410 * B: 6e-6}),
        ("MT-NLG", {500 * M: 2.5e-5, B: 5e-5, 170_500_000_000: 5e-5 * 0.55, 340 * B: 5e-6}),
        # 2000 updates of four million tokens are eight billion.
        ("LLaMA", {4 * B: 7.5e-5, 8 * B: 1.5e-4, 1400 * B: 1.5e-5}),
        # 1500 updates of three million; a third of the fall is a sixth of half a turn.
        ("Gopher", {4_500_000_000: 4e-5, 103 * B: 4e-5 * (0.1 + 0.45 * (1 + cos(pi / 3)))}),
        # A straight line from 1.1 to 450 billion tokens.
        ("Galactica", {1_100 * M: 7e-6, 225_550_000_000: 7e-6 * 0.55, 450 * B: 7e-7}),
        ("GLM-130B", {B: 4e-5, 2 * B: 8e-5, 201 * B: 8e-5 * 0.55, 400 * B: 8e-6}),
        # A hundredth for ten thousand updates, then one over the root of their number; 50,000
        # updates of a million tokens and 65,000 of two million are 180 billion.
        ("PaLM", {0: 0.01, 10 * B: 0.01, 40 * B: 0.005, 180 * B: 115_000**-0.5}),
        ("T5", {10_000 << 20: 0.01, 40_000 << 20: 0.005, 1_000_000 << 20: 0.001}),
    ],
)
def test_rates_at_points_by_hand(model: str, points: dict[int, float]) -> None:
    rate = published_rate(model)
    assert {n: rate(n) for n in points} == {n: pytest.approx(r) for n, r in points.items()}


@pytest.mark.covers("train.batch")
@pytest.mark.parametrize(
    ("model", "points"),
    [
        ("GPT-3", {0: 32_000, 3 * B: 824_000, 12 * B: 3_200_000, 300 * B: 3_200_000}),
        ("PaLM", {50 * B - 1: M, 50 * B: 2 * M, 180 * B - 1: 2 * M, 180 * B: 4 * M}),
        # 192 and 4224 sequences of 2048 tokens; half way there are 2208.
        ("GLM-130B", {0: 192 << 11, 5 * B: 2208 << 11, 10 * B: 4224 << 11}),
        ("MT-NLG", {0: 32 << 11, 6 * B: 976 << 11, 12 * B: 1920 << 11}),
        ("BLOOM", {0: 4 * M, 300 * B: 4 * M}),
        ("LaMDA", {0: 256_000}),
    ],
)
def test_batches_at_points_by_hand(model: str, points: dict[int, int]) -> None:
    batch = published_batch(model)
    assert {n: batch.micro_batches(n) for n in points} == points


@pytest.mark.covers("train.lr")
def test_what_the_sources_leave_out_is_said() -> None:
    lacking = unstated()
    models = set(load_table("optimization").column("model"))
    whole = {"GPT-3", "PaLM", "BLOOM", "MT-NLG", "Galactica", "LLaMA", "GLM-130B", "T5"}
    assert models - lacking.keys() == whole
    assert lacking["Gopher"] == ["when its batch grows from 3000000 to 6000000 is not stated"]
    assert lacking["Chinchilla"][0] == "how long its rate rises is not stated"
    assert lacking["PanGu-α"] == ["how its rate falls is not stated", "its batch is not stated"]
    with pytest.raises(ValueError, match="OPT: its rate was changed by hand"):
        published_rate("OPT")


def test_palm_did_the_updates_that_its_paper_says() -> None:
    updates = [updates_after(n * B, published_batch("PaLM")) for n in (0, 25, 50, 180, 740)]
    assert updates == [0, 25_000, 50_000, 115_000, 255_000]


def test_updates_under_a_line_equal_a_count() -> None:
    # Each update takes what the ramp says; the integral is its limit for small batches.
    ramp = BatchRamp(points=((0, 1009), (7 * 10**7, 1009 * 8)))
    tokens = updates = 0
    while tokens < 10**8:
        tokens += ramp.micro_batches(tokens)
        updates += 1
    assert updates_after(tokens, ramp) == pytest.approx(updates, rel=1e-3)
