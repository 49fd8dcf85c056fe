"""Who did what when: read from what the processes of a pipeline noted, and drawn."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llmlib.core.figures import PALETTE
from llmlib.training.parallel.communicator import Event
from llmlib.training.parallel.pipelines.orders import StageWork, WorkSpan, work_before

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WORK = re.compile(r"([FBW])(\d+)(?:\.(\d+))?")
COLORS = {"F": PALETTE[0], "B": PALETTE[1], "W": PALETTE[2]}


def noted_spans(ranks: Sequence[Iterable[Event]]) -> list[WorkSpan]:
    """Return when each stage really worked: after the wait with which a piece of work begins.

    The ranks' clocks must be one: `time.perf_counter` is, for processes of one machine.

    Args:
        ranks: What each process's communicator noted, in the order of stages.

    Example:
        >>> noted = [Event("wait for activations", 0.0, 2.0), Event("F0", 0.0, 3.0)]
        >>> [(span.stage, str(span.work), span.start, span.end) for span in noted_spans([noted])]
        [(0, 'F0', 2.0, 3.0)]
    """
    spans: list[WorkSpan] = []
    for stage, events in enumerate(ranks):
        ready = 0.0
        for event in events:
            found = _WORK.fullmatch(event.name)
            if found is None:
                ready = event.end
                continue
            part, micro_batch, chunk = found.groups()
            work = StageWork(part, int(micro_batch), int(chunk or 0))  # pyright: ignore[reportArgumentType]
            spans.append(WorkSpan(stage, work, max(event.start, ready), event.end))
    return sorted(spans, key=lambda span: (span.start, span.stage))


def draw_timeline(
    axes: "Axes", spans: Sequence[WorkSpan], *, chunks: int = 1, scale: float = 1.0
) -> None:
    """Draw a row a stage, the first on top: its work as boxes, what it sent as thin lines.

    A line goes from the end of a piece of work to the start of the next stage's that needs it;
    white is idle. A box bears its micro-batch's number; later chunks are paler.

    Args:
        chunks: Of a stage, as the order had them.
        scale: What times are multiplied by: 1,000 for milliseconds.
    """
    stages = 1 + max(span.stage for span in spans)
    begin = min(span.start for span in spans)
    ends = {(span.stage, span.work): scale * (span.end - begin) for span in spans}
    for span in spans:
        left, width = scale * (span.start - begin), scale * (span.end - span.start)
        axes.barh(
            span.stage, width, left=left, height=0.7, color=COLORS[span.work.part],
            edgecolor="white", linewidth=0.6, alpha=1 - 0.45 * span.work.chunk / chunks,
        )  # fmt: skip
        axes.text(
            left + width / 2, span.stage, str(span.work.micro_batch), color="white",
            ha="center", va="center", fontsize=8,
        )  # fmt: skip
        for stage, work in work_before(span.work, span.stage, stages, chunks):
            if stage != span.stage and (stage, work) in ends:
                axes.plot([ends[stage, work], left], [stage, span.stage], color="0.6", lw=0.6)
    for part in sorted({span.work.part for span in spans}, key="FBW".index):
        axes.plot([], [], "s", color=COLORS[part], label=part)
    axes.set(yticks=range(stages), ylabel="stage", ylim=(stages - 0.5, -0.5))
    axes.grid(visible=False)
