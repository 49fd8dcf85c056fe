"""In which order each stage of a pipeline works, and how long it then stands idle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

PipelineKind = Literal["gpipe", "1f1b", "interleaved", "zero_bubble"]
StagePart = Literal["F", "B", "W"]


@dataclass(frozen=True)
class StageWork:
    """One micro-batch's forward (F) or backward (B) pass through a stage's chunk of layers.

    Where the order says so, the backward pass is split: B is the gradient of the chunk's input,
    which the stage before waits for, W that of its weights, which nobody does.
    """

    part: StagePart
    micro_batch: int
    chunk: int = 0

    def __str__(self) -> str:
        return f"{self.part}{self.micro_batch}" + (f".{self.chunk}" if self.chunk else "")


Order = list[StageWork]
"""What one stage does, first to last."""


def pipeline_orders(
    kind: PipelineKind, stages: int, micro_batches: int, chunks: int = 1
) -> list[Order]:
    r"""Return every stage's order.

    - `gpipe`: all forward passes, then all backward ones; a stage keeps every micro-batch.
    - `1f1b`: stage s starts with $P - s - 1$ forward passes, then one of each in turn; it keeps at
      most $P - s$ micro-batches.
    - `interleaved`: as 1f1b, each stage with several chunks of layers, each a lap of the pipeline.
    - `zero_bubble` (H1): as 1f1b, the weights' gradients put off into the gaps where the stage
      would wait; no stage keeps more than the first one of 1f1b does, P micro-batches.

    Args:
        chunks: Chunks of layers a stage, for `interleaved`.

    Raises:
        ValueError: When a number does not fit the kind.

    Example:
        >>> for order in pipeline_orders("1f1b", 2, 3):
        ...     print(*order)
        F0 F1 B0 F2 B1 B2
        F0 B0 F1 B1 F2 B2

    References:
        Huang et al. (2019), GPipe, figure 2; Narayanan et al. (2021), Efficient Large-Scale
        Language Model Training on GPU Clusters Using Megatron-LM, section 2.2; Qi et al. (2024),
        Zero Bubble Pipeline Parallelism, section 3.1.
    """
    if kind not in get_args(PipelineKind):
        raise ValueError(f"kind={kind!r} is unknown: one of {get_args(PipelineKind)}")
    if stages < 1 or micro_batches < 1 or chunks < 1:
        raise ValueError(
            f"stages={stages}, micro_batches={micro_batches}, chunks={chunks}: all at least 1"
        )
    if kind != "interleaved" and chunks > 1:
        raise ValueError(f"{kind} has one chunk of layers a stage; 'interleaved' has several")
    if kind == "interleaved" and micro_batches % stages:
        raise ValueError(
            f"{micro_batches} micro-batches in laps of {stages} stages: give a multiple"
        )
    if kind == "gpipe":
        forward = [StageWork("F", m) for m in range(micro_batches)]
        return [forward + [StageWork("B", m) for m in range(micro_batches)] for _ in range(stages)]
    if kind == "interleaved":
        return [_interleaved(s, stages, micro_batches, chunks) for s in range(stages)]
    plain = [_one_by_one(s, stages, micro_batches) for s in range(stages)]
    return _filled(plain) if kind == "zero_bubble" else plain


def _one_by_one(stage: int, stages: int, micro_batches: int) -> Order:
    ahead = min(stages - stage - 1, micro_batches)
    forward = [StageWork("F", m) for m in range(micro_batches)]
    backward = [StageWork("B", m) for m in range(micro_batches)]
    return _alternate(forward, backward, ahead)


def _interleaved(stage: int, stages: int, micro_batches: int, chunks: int) -> Order:
    lap = stages * chunks
    places = [
        (k // lap * stages + k % stages, k % lap // stages) for k in range(micro_batches * chunks)
    ]
    forward = [StageWork("F", m, c) for m, c in places]
    backward = [StageWork("B", m, chunks - 1 - c) for m, c in places]
    ahead = 2 * (stages - stage - 1) + (chunks - 1) * stages
    return _alternate(forward, backward, min(ahead, len(forward)))


def _alternate(forward: Order, backward: Order, ahead: int) -> Order:
    """Do some forward passes, then one and a backward pass in turn, then what is left."""
    turns = [
        work
        for pair in zip(forward[ahead:], backward, strict=False)
        for work in pair
    ]  # fmt: skip
    return forward[:ahead] + turns + backward[len(forward) - ahead :]


def _filled(orders: list[Order]) -> list[Order]:
    """Put each weight gradient where a stage of 1f1b waits, or at the end."""
    left, done = [list(order) for order in orders], [Order() for _ in orders]
    owed: list[list[int]] = [[] for _ in orders]
    ended: dict[tuple[int, StageWork], float] = {}
    clocks, kept = [0.0] * len(orders), [0] * len(orders)
    # All parts take one unit of time here; the order is kept whatever they take in truth.
    while any(left) or any(owed):
        stage = min(
            (s for s in range(len(orders)) if left[s] or owed[s]), key=lambda s: (clocks[s], -s)
        )
        work = left[stage][0] if left[stage] else None
        needs = None if work is None else work_before(work, stage, len(orders), 1)
        ready = work is not None and all(ended.get(n, 1e9) <= clocks[stage] for n in needs or ())
        is_full = work is not None and work.part == "F" and kept[stage] == len(orders)
        if work is not None and ready and not (is_full and owed[stage]):
            left[stage].pop(0)
            kept[stage] += work.part == "F"
            if work.part == "B":
                owed[stage].append(work.micro_batch)
        elif owed[stage]:
            work = StageWork("W", owed[stage].pop(0))
            kept[stage] -= 1
        else:
            clocks[stage] = _soon(stage, clocks)
            continue
        assert work is not None
        clocks[stage] += 1
        ended[stage, work] = clocks[stage]
        done[stage].append(work)
    return done


def _soon(stage: int, clocks: list[float]) -> float:
    """Return when something may have changed for a stage that waits."""
    later = [clock for clock in clocks if clock > clocks[stage]]
    return min(later) if later else clocks[stage] + 1


def work_before(
    work: StageWork, stage: int, stages: int, chunks: int
) -> list[tuple[int, StageWork]]:
    """Return what must have ended, and on which stage, before a piece of work can start.

    Example:
        >>> [(stage, str(work)) for stage, work in work_before(StageWork("B", 0), 0, 2, 1)]
        [(0, 'F0'), (1, 'B0')]
    """
    place, micro = work.chunk * stages + stage, work.micro_batch
    match work.part:
        case "F":
            before = [] if place == 0 else [(place - 1, "F")]
        case "B":
            last = place == stages * chunks - 1
            before = [(place, "F")] if last else [(place, "F"), (place + 1, "B")]
        case "W":
            before = [(place, "B")]
    return [(p % stages, StageWork(part, micro, p // stages)) for p, part in before]  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class WorkSpan:
    """When a stage did a piece of work."""

    stage: int
    work: StageWork
    start: float
    end: float


def simulate(
    orders: Sequence[Order], seconds: Mapping[StagePart, float], *, chunks: int = 1
) -> list[WorkSpan]:
    """Play orders: a stage starts its next work when it and what the work needs have ended.

    Sending takes no time. Chunks share a stage's time: give the seconds of one chunk.

    Args:
        seconds: How long each part takes; of an order without W, B is the whole backward pass.

    Raises:
        ValueError: When the stages wait for each other for ever.

    Example:
        >>> spans = simulate(pipeline_orders("gpipe", 2, 1), {"F": 1, "B": 2})
        >>> [(span.stage, str(span.work), span.end) for span in spans]
        [(0, 'F0', 1.0), (1, 'F0', 2.0), (1, 'B0', 4.0), (0, 'B0', 6.0)]
    """
    stages, ended = len(orders), dict[tuple[int, StageWork], float]()
    clocks, places, spans = [0.0] * stages, [0] * stages, list[WorkSpan]()
    while any(place < len(order) for place, order in zip(places, orders, strict=True)):
        moved = False
        for stage, order in enumerate(orders):
            while places[stage] < len(order):
                work = order[places[stage]]
                needs = work_before(work, stage, stages, chunks)
                if not all(need in ended for need in needs):
                    break
                start = max([clocks[stage], *(ended[need] for need in needs)])
                clocks[stage] = start + seconds[work.part]
                ended[stage, work] = clocks[stage]
                spans.append(WorkSpan(stage, work, start, clocks[stage]))
                places[stage], moved = places[stage] + 1, True
        if not moved:
            waiting = [str(o[p]) for o, p in zip(orders, places, strict=True) if p < len(o)]
            raise ValueError(f"the stages wait for each other: {', '.join(waiting)}")
    return sorted(spans, key=lambda span: (span.start, span.stage))


def bubble(spans: Sequence[WorkSpan]) -> float:
    r"""Return the share of the stages' time that is idle, from the first start to the last end.

    With equal stages, m micro-batches and v chunks it is $\tfrac{P - 1}{v m + P - 1}$ for GPipe and
    1F1B (v = 1) and interleaved orders.

    Example:
        >>> spans = simulate(pipeline_orders("1f1b", 4, 8), {"F": 1, "B": 2})
        >>> round(bubble(spans), 4), round(3 / (8 + 3), 4)
        (0.2727, 0.2727)

    References:
        Narayanan et al. (2021), section 2.2.
    """
    stages = {span.stage for span in spans}
    whole = max(span.end for span in spans) - min(span.start for span in spans)
    return 1 - sum(span.end - span.start for span in spans) / (whole * len(stages))


def kept_micro_batches(order: Order) -> int:
    """Return how many forward passes a stage keeps at most, until their last gradient is made.

    Example:
        >>> [kept_micro_batches(order) for order in pipeline_orders("1f1b", 3, 8)]
        [3, 2, 1]
    """
    last: StagePart = "W" if any(work.part == "W" for work in order) else "B"
    kept, most = 0, 0
    for work in order:
        kept += (work.part == "F") - (work.part == last)
        most = max(most, kept)
    return most
