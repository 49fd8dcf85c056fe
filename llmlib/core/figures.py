"""The one look of the book's figures."""

from typing import Any

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
