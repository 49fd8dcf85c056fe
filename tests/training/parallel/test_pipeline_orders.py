"""Orders of pipelines: complete, free of deadlock, with the bubbles and the memory of theory."""

from collections import Counter

import pytest

from llmlib.training.parallel.pipelines.orders import (
    StagePart,
    StageWork,
    bubble,
    kept_micro_batches,
    pipeline_orders,
    simulate,
)

SIZES = [(1, 3), (2, 3), (3, 7), (4, 2), (5, 11)]
WHOLE: dict[StagePart, float] = {
    "F": 1.0,
    "B": 2.0,
}  # a backward pass makes two products for each of the forward's
SPLIT: dict[StagePart, float] = {"F": 1.0, "B": 1.0, "W": 1.0}


@pytest.mark.covers("train.pipeline-parallel")
@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "micro"), SIZES)
def test_the_bubble_is_that_of_theory(kind, stages: int, micro: int) -> None:
    spans = simulate(pipeline_orders(kind, stages, micro), WHOLE)
    assert bubble(spans) == pytest.approx((stages - 1) / (micro + stages - 1))


@pytest.mark.covers("train.pipeline-parallel")
@pytest.mark.parametrize(("stages", "micro", "chunks"), [(2, 4, 2), (3, 6, 3), (4, 12, 5)])
def test_laps_divide_the_bubble(stages: int, micro: int, chunks: int) -> None:
    spans = simulate(pipeline_orders("interleaved", stages, micro, chunks), WHOLE, chunks=chunks)
    assert bubble(spans) == pytest.approx((stages - 1) / (chunks * micro + stages - 1))


@pytest.mark.covers("train.pipeline-parallel")
@pytest.mark.parametrize(("stages", "micro"), [(2, 3), (3, 7), (4, 8), (5, 11)])
def test_putting_off_weight_gradients_leaves_a_third_of_the_idle_time(
    stages: int, micro: int
) -> None:
    orders = pipeline_orders("zero_bubble", stages, micro)
    spans = simulate(orders, SPLIT)
    # (P - 1)(F + B - W) against (P - 1)(F + B + W)
    assert max(span.end for span in spans) == 3 * micro + (stages - 1)
    assert max(map(kept_micro_batches, orders)) == min(stages, micro)


@pytest.mark.parametrize(("stages", "micro"), SIZES)
def test_what_is_kept(stages: int, micro: int) -> None:
    kept = [kept_micro_batches(order) for order in pipeline_orders("1f1b", stages, micro)]
    assert kept == [min(stages - stage, micro) for stage in range(stages)]
    assert set(map(kept_micro_batches, pipeline_orders("gpipe", stages, micro))) == {micro}


@pytest.mark.parametrize(
    ("kind", "chunks"), [("gpipe", 1), ("1f1b", 1), ("interleaved", 3), ("zero_bubble", 1)]
)
def test_every_piece_is_done_once_on_every_stage(kind, chunks: int) -> None:
    parts = "FBW" if kind == "zero_bubble" else "FB"
    every = Counter(StageWork(p, m, c) for p in parts for m in range(6) for c in range(chunks))  # pyright: ignore[reportArgumentType]
    for order in pipeline_orders(kind, 3, 6, chunks):
        assert Counter(order) == every


def test_orders_that_cannot_be_played_are_refused() -> None:
    with pytest.raises(ValueError, match="wait for each other: B0, F0"):
        simulate(
            [[StageWork("B", 0), StageWork("F", 0)], [StageWork("F", 0), StageWork("B", 0)]], WHOLE
        )
    with pytest.raises(ValueError, match="give a multiple"):
        pipeline_orders("interleaved", 4, 6, 2)
    with pytest.raises(ValueError, match="one chunk"):
        pipeline_orders("1f1b", 4, 6, 2)
