"""The one look of the book's figures, and how they show what differs from seed to seed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlib.core.statistics import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

PALETTE: tuple[str, ...] = (
    "#0072B2",  # blue
    "#D55E00",  # vermilion
    "#009E73",  # bluish green
    "#CC79A7",  # reddish purple
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#000000",  # black
)
"""Colours that readers with any colour vision tell apart, in the order figures use them.

They are Okabe and Ito's, without the yellow, which is too faint for a line on white.

References:
    Okabe and Ito (2008), Color Universal Design.
"""

STYLE: dict[str, Any] = {
    # White, not transparent: axes and labels stay readable when the book is in dark mode.
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.facecolor": "white",
    # 6 inches at 150 dpi is 900 pixels: sharp in a 730-pixel column, and 11 points are still
    # 9 pixels high when a 390-pixel phone shrinks the picture.
    "figure.figsize": (6.0, 3.7),
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "savefig.format": "png",
    "figure.constrained_layout.use": True,
    "font.size": 11.0,
    "axes.titlesize": 12.0,
    "axes.labelsize": 11.0,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.fontsize": 10.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "image.cmap": "viridis",
}
"""Settings of matplotlib, by their names there."""


def use_style() -> None:
    """Give every figure drawn from here on the book's look.

    Sizes suit a column of 730 pixels and a phone of 390; colours come from `PALETTE`; the ground is
    white in the book's light and dark modes alike.

    Example:
        >>> import matplotlib as mpl
        >>> with mpl.rc_context():
        ...     use_style()
        ...     mpl.rcParams["axes.prop_cycle"].by_key()["color"][0]
        '#0072B2'
    """
    import matplotlib as mpl
    from cycler import cycler

    mpl.rcParams.update({**STYLE, "axes.prop_cycle": cycler(color=list(PALETTE))})  # pyright: ignore[reportCallIssue, reportArgumentType]


def draw_seeds(
    axes: "Axes", values: Mapping[str, Sequence[float]], colors: Iterable[str] = PALETTE
) -> None:
    """Draw a row a condition, from the top: seeds as dots, their mean and its 95% t interval.

    Args:
        values: One number a seed, by the name of the condition.
    """
    for row, (seeds, color) in enumerate(zip(values.values(), colors, strict=False)):
        mean, low, high = t_interval(seeds)
        axes.plot([low, high], [row, row], color="0.75", lw=6, solid_capstyle="butt")
        axes.plot(seeds, np.full(len(seeds), row), "o", color=color, alpha=0.7)
        axes.plot(mean, row, "|", color=color, markersize=18, markeredgewidth=2.5)
    axes.set(yticks=range(len(values)), yticklabels=list(values), ylim=(len(values) - 0.4, -0.6))


def draw_intervals(
    axes: "Axes",
    places: "ArrayLike",
    intervals: Iterable[Sequence[float]],
    *,
    fmt: str = "o",
    **style: Any,
) -> None:
    """Draw estimates as dots, each at its place on the y axis, and their intervals as bars.

    Args:
        intervals: Of each, the estimate, the lower and the upper end.
        style: For matplotlib's `errorbar`.
    """
    value, low, high = np.array([tuple(interval) for interval in intervals]).T
    axes.errorbar(value, places, xerr=(value - low, high - value), fmt=fmt, **style)


def draw_band(
    axes: "Axes", places: "ArrayLike", runs: "ArrayLike", *, color: str, **style: Any
) -> None:
    """Draw the mean over seeds as a line, and all between their extremes as a band.

    Args:
        runs: A row a seed, a column a place on the x axis.
        style: Of the line.
    """
    rows = np.asarray(runs)
    axes.plot(places, rows.mean(axis=0), color=color, **style)
    axes.fill_between(places, rows.min(axis=0), rows.max(axis=0), color=color, alpha=0.2, lw=0)
