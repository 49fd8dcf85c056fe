"""The picture of a cleaning run: how much text is left after each step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmlib.core.figures import PALETTE
from llmlib.data.cleaning.report import FunnelStep, PipelineReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def funnel_figure(report: PipelineReport | Sequence[FunnelStep]) -> "Figure":
    """Draw what is left after each step, as shares of what the first entry says was read.

    Raises:
        ValueError: If the run read nothing, which leaves no share to draw.
    """
    from matplotlib.figure import Figure

    if isinstance(report, PipelineReport):
        steps, read = report.funnel(), report.steps[0]
    else:
        steps, read = report, report[0]
    if not read.bytes:
        raise ValueError("the run read no text: there is no funnel to draw")
    figure = Figure(figsize=(6.0, 0.9 + 0.55 * len(steps)), layout="constrained")
    axes = figure.subplots()
    for offset, label, total, left in (
        (-0.19, "documents", read.documents, [step.documents for step in steps]),
        (0.19, "bytes", read.bytes, [step.bytes for step in steps]),
    ):
        shares = [100 * number / total for number in left]
        places = [row + offset for row in range(len(steps))]
        colour = PALETTE[0] if label == "documents" else PALETTE[4]
        bars = axes.barh(places, shares, height=0.36, label=label, color=colour)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
    axes.set_yticks(range(len(steps)), [step.name for step in steps])
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel("left after the step (% of what was read)")
    axes.grid(visible=False, axis="y")
    figure.legend(loc="outside upper right", ncols=2)
    return figure
