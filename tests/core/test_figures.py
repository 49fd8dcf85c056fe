"""What the figures of seeds draw: every value, and intervals at the right places."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from llmlib.core.figures import draw_band, draw_intervals, draw_seeds
from llmlib.core.statistics import t_interval

mpl.use("agg")


@pytest.fixture
def axes() -> Axes:
    return Figure().add_subplot()


def test_seeds_stand_on_the_row_of_their_condition_with_its_interval(axes: Axes) -> None:
    values = {"first": [1.0, 2.0, 4.0], "second": [3.0, 5.0, 8.0]}
    draw_seeds(axes, values)
    bar, dots, mean = (np.array(line.get_xydata()) for line in axes.lines[3:])
    value, low, high = t_interval(values["second"])
    assert dots.tolist() == [[3, 1], [5, 1], [8, 1]]
    assert (bar.tolist(), mean.tolist()) == ([[low, 1], [high, 1]], [[value, 1]])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["first", "second"]
    assert axes.yaxis.get_inverted()


def test_intervals_reach_from_end_to_end(axes: Axes) -> None:
    draw_intervals(axes, [3, 5], [(1.0, 0.5, 3.0), (2.0, 1.0, 7.0)], label="loss")
    (bars,) = axes.containers
    dots, _, (reach,) = bars
    assert np.array(dots.get_xydata()).tolist() == [[1, 3], [2, 5]]
    assert np.array(reach.get_segments())[:, :, 0].tolist() == [[0.5, 3], [1, 7]]
    assert bars.get_label() == "loss"


def test_a_band_holds_every_seed(axes: Axes) -> None:
    runs = [[1.0, 5.0, 2.0], [3.0, 7.0, 8.0]]
    draw_band(axes, [0, 1, 4], runs, color="black", label="mean")
    assert np.array(axes.lines[0].get_xydata()).tolist() == [[0, 2], [1, 6], [4, 5]]
    corners = set(map(tuple, np.asarray(axes.collections[0].get_paths()[0].vertices)))
    assert {(x, row[i]) for row in runs for i, x in enumerate((0, 1, 4))} <= corners
