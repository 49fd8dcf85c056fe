"""The survey's table of training settings as schedules: what rate and batch at which token."""

from collections.abc import Callable
from itertools import pairwise
from math import log

from llmlib.core.survey.rows import OptimizationSetting
from llmlib.core.survey.tables import load_table
from llmlib.training.batches.ramp import BatchRamp
from llmlib.training.optimizers.schedules import cosine, inverse_sqrt, linear

_BILLION = 10**9

# What the table has no column for, from the papers that its rows name.
_GROWTH: dict[str, BatchRamp] = {
    # Appendix B: "over the first 4-12 billion tokens", by size; this is the largest model.
    "GPT-3": BatchRamp(points=((0, 32_000), (12 * _BILLION, 3_200_000))),
    # Section 3.2: in increments of 32 sequences over the first 12 billion tokens.
    "MT-NLG": BatchRamp(points=((0, 65_536), (12 * _BILLION, 3_932_160))),
    # Section 3: 192 to 4224 sequences over the first 2.5% of 400 billion tokens.
    "GLM-130B": BatchRamp(points=((0, 393_216), (10 * _BILLION, 8_650_752))),
    # Section 5: doubled at updates 50,000 and 115,000.
    "PaLM": BatchRamp(
        points=((0, 1_000_000), (50 * _BILLION, 2_000_000), (180 * _BILLION, 4_000_000)),
        growth="steps",
    ),
}
_WARM_UP_TOKENS_M = {"GLM-130B": 2000}  # 0.5% of the run
_RUN_TOKENS_B = {"Galactica": 450, "GLM-130B": 400, "Gopher": 300, "LLaMA": 1400}
"""Lengths of the runs whose decay ends with them."""


def published_batch(model: str) -> BatchRamp:
    """Return a published model's batch as a ramp whose micro-batch is one token.

    Raises:
        ValueError: When the sources do not say how large it was when; the message says what lacks.

    Example:
        >>> published_batch("GPT-3").micro_batches(6_000_000_000)  # half way
        1616000

    References:
        Zhao et al. (2023), A Survey of Large Language Models, table 5, and the papers that its rows
        name.
    """
    row = load_table("optimization").row(model)
    start, end = row.batch_tokens_start, row.batch_tokens_end
    if start is None or end is None:
        raise ValueError(f"{model}: its batch is not stated")
    if start == end:
        return BatchRamp(points=((0, start),))
    if model not in _GROWTH:
        raise ValueError(f"{model}: when its batch grows from {start} to {end} is not stated")
    ramp = _GROWTH[model]
    assert (ramp.points[0][1], ramp.points[-1][1]) == (start, end)
    return ramp


def published_rate(model: str) -> Callable[[int], float]:
    """Return a published model's learning rate as a function of the tokens learned from.

    A warm-up that is stated in updates is converted with the batch at the start; a rate that falls
    with the number of updates, with `updates_after` and the batch as it grew.

    Raises:
        ValueError: When the sources leave out a part; the message says which.

    Example:
        >>> rate = published_rate("GPT-3")
        >>> rate(375_000_000), round(rate(260_000_000_000) * 1e6, 3)  # at the top, and at a tenth
        (6e-05, 6.0)

    References:
        Zhao et al. (2023), table 5, and the papers that its rows name.
    """
    row = load_table("optimization").row(model)
    peak = row.learning_rate
    if peak is None:
        raise ValueError(f"{model}: its learning rate is not stated")
    if row.decay is None:
        raise ValueError(f"{model}: how its rate falls is not stated")
    if row.decay == "manual":
        raise ValueError(f"{model}: its rate was changed by hand")
    if row.decay == "inverse sqrt":
        hold, batch = row.hold_steps, published_batch(model)
        assert hold, "the table's rows that fall so hold their rate first"
        # At the peak until update `hold`, where the library's function has its warm-up.
        return lambda tokens: (
            peak * inverse_sqrt(max(hold, int(updates_after(tokens, batch))), warmup=hold)
        )
    warm_up = _warm_up_tokens(row)
    length = row.decay_tokens_b or _RUN_TOKENS_B.get(model)
    if length is None or row.decay_floor is None:
        raise ValueError(f"{model}: over how many tokens its rate falls, or how low, is not stated")
    fall = cosine if row.decay == "cosine" else linear
    end, floor = int(length * _BILLION), row.decay_floor
    return lambda tokens: peak * fall(tokens, total=end, warmup=warm_up, final=floor)


def unstated() -> dict[str, list[str]]:
    """Return what the sources leave out of a model's rate or batch, for those where they do.

    Example:
        >>> unstated()["OPT"]
        ['its rate was changed by hand']
    """
    found: dict[str, list[str]] = {}
    for model in load_table("optimization").column("model"):
        for read in (published_rate, published_batch):
            try:
                read(model)
            except ValueError as error:
                said = str(error).removeprefix(f"{model}: ")
                if said not in found.setdefault(model, []):
                    found[model].append(said)
    return found


def updates_after(tokens: int, batch: BatchRamp) -> float:
    r"""Return how many updates a run has done: $\int_0^n \mathrm{d}n' / b(n')$.

    The batch counts tokens, and its line is taken as it is, without rounding: between two points
    the integral is the tokens over the logarithmic mean of both batches.

    Example:
        >>> doubling = BatchRamp(points=((0, 10), (1000, 20)), growth="steps")
        >>> updates_after(1400, doubling)  # 100 of 10 tokens and 20 of 20
        120.0
    """
    total = 0.0
    for (start, size), (end, next_size) in pairwise((*batch.points, (tokens, 0))):
        here = min(end, tokens) - start
        if here <= 0:
            break
        grows = batch.growth == "linear" and start != batch.points[-1][0] and size != next_size
        if not grows:
            total += here / size
            continue
        slope = (next_size - size) / (end - start)
        total += log(1 + slope * here / size) / slope
    return total


def _warm_up_tokens(row: OptimizationSetting) -> int:
    if row.model in _WARM_UP_TOKENS_M:
        return _WARM_UP_TOKENS_M[row.model] * 10**6
    if row.warmup_tokens_m is not None:
        return int(row.warmup_tokens_m * 10**6)
    if row.warmup_steps is None or row.batch_tokens_start is None:
        raise ValueError(f"{row.model}: how long its rate rises is not stated")
    return row.warmup_steps * row.batch_tokens_start
