"""Bubbles of real processes: four that sleep, two that compute; and the timeline drawn of them."""

from statistics import median
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch.distributed as dist

from llmlib.core.processes.launcher import launch
from llmlib.experiments.training.lessons.pipelines import Plan, in_earnest, naps
from llmlib.training.parallel.communicator import Communicator, Event
from llmlib.training.parallel.pipelines.orders import bubble, pipeline_orders, simulate
from llmlib.training.parallel.pipelines.timeline import draw_timeline, noted_spans

STAGES, MICRO, NAP = 4, 4, 0.05
PLANS: list[Plan] = [
    ("gpipe", MICRO, 1, {"F": NAP, "B": 2 * NAP}),
    ("1f1b", MICRO, 1, {"F": NAP, "B": 2 * NAP}),
    ("interleaved", MICRO, 2, {"F": NAP / 2, "B": NAP}),
    ("zero_bubble", MICRO, 1, {"F": NAP, "B": NAP, "W": NAP}),
]
THEORY = [3 / 7, 3 / 7, 3 / 11, 3 / 15]
PIECES, REPEATS = (1, 8), 3


def asleep_and_awake(rank: int, world_size: int) -> dict[str, Any]:
    pair = dist.new_group([0, 1])
    found: dict[str, Any] = {"naps": naps(rank, world_size, PLANS, REPEATS)}
    if rank < 2:
        assert isinstance(pair, dist.ProcessGroup)
        found["earnest"] = {m: in_earnest(Communicator(pair), m, REPEATS) for m in PIECES}
    return found


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    return launch(asleep_and_awake, STAGES, timeout_s=240)


@pytest.mark.slow
@pytest.mark.covers("train.pipeline-parallel")
@pytest.mark.parametrize("plan", range(len(PLANS)), ids=[plan[0] for plan in PLANS])
def test_four_sleeping_stages_idle_as_theory_says(runs: list[dict[str, Any]], plan: int) -> None:
    kind, micro, chunks, seconds = PLANS[plan]
    played = [noted_spans([run["naps"][plan][i] for run in runs]) for i in range(REPEATS)]
    spans = simulate(pipeline_orders(kind, STAGES, micro, chunks), seconds, chunks=chunks)
    assert bubble(spans) == pytest.approx(THEORY[plan])
    assert {(span.stage, span.work) for span in played[0]} == {(s.stage, s.work) for s in spans}
    # Whoever is woken late keeps the others waiting: the least disturbed round, and a margin.
    assert min(map(bubble, played)) == pytest.approx(THEORY[plan], abs=0.1)


@pytest.mark.slow
@pytest.mark.covers("train.pipeline-parallel")
def test_two_computing_stages_idle_less_in_eight_pieces(runs: list[dict[str, Any]]) -> None:
    idle = {
        m: median(
            bubble(noted_spans([run["earnest"][m][i] for run in runs[:2]])) for i in range(REPEATS)
        )
        for m in PIECES
    }
    # One piece is never on two stages; a stage may begin before the other has noted its end.
    assert idle[1] > 0.4
    assert idle[8] < idle[1]


def test_a_timeline_has_a_box_for_each_piece_and_a_line_for_what_is_sent() -> None:
    chunks, stages, micro = 2, 3, 6
    orders = pipeline_orders("interleaved", stages, micro, chunks)
    spans = simulate(orders, {"F": 1.0, "B": 2.0}, chunks=chunks)
    figure, axes = plt.subplots()
    draw_timeline(axes, spans, chunks=chunks, scale=1000)
    assert len(axes.patches) == len(spans) == 2 * micro * chunks * stages
    assert {text.get_text() for text in axes.texts} == {str(m) for m in range(micro)}
    sent = [line for line in axes.lines if len(line.get_xdata()) == 2]  # pyright: ignore[reportArgumentType]
    assert len(sent) == 2 * micro * (chunks * stages - 1)
    assert all(np.all(np.diff(np.asarray(line.get_xdata(), dtype=float)) >= 0) for line in sent)
    assert axes.get_xlim()[1] > 1000 * max(span.end for span in spans)
    plt.close(figure)


def test_a_wait_is_no_work() -> None:
    noted = [
        Event("F0", 0.0, 1.0), Event("wait for gradients", 1.0, 4.0), Event("B0", 1.0, 6.0),
        Event("all-gather", 6.0, 7.0),
    ]  # fmt: skip
    spans = noted_spans([noted])
    assert [(str(s.work), s.start, s.end) for s in spans] == [("F0", 0.0, 1.0), ("B0", 4.0, 6.0)]
    assert bubble(spans) == 0.5
