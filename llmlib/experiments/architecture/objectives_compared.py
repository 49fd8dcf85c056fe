"""Families and objectives at equal compute: what each model can do right after pre-training.

Every design spends the same number of training FLOPs on the same text and is then asked two things
that no one trained it for as such: to continue a text, and to fill a gap in one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from rich.table import Table

from llmlib.architecture.counts import forward_flops
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import count_targets
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval
from llmlib.experiments.architecture.objective_designs import (
    BATCH,
    DESIGNS,
    LENGTH,
    LM,
    PREFIX_LM,
    build,
    make_batch,
    step_flops,
)
from llmlib.experiments.architecture.objective_questions import (
    CHANCE,
    ENDING,
    GAP,
    choice_accuracy,
    endings_loss,
    evaluation_rows,
)
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import short_text
from llmlib.experiments.short_training import random_rows
from llmlib.training.objectives.next_token import LanguageModel, next_token_loss
from llmlib.training.optimizers.combined import muon_with_adamw

STEPS, WARMUP, POINTS = 240, 0.05, 8
MUON_LR, LR = 0.04, 2e-2
CONVERSION_STEPS = 80
SEEDS = (0, 1, 2)


def budget(steps: int = STEPS) -> int:
    """Return the operations that all may spend: those of so many steps of the causal LM."""
    config = build("causal").config
    return steps * 3 * forward_flops(config, BATCH, LENGTH)


@dataclass
class Trained:
    model: LanguageModel
    steps: int
    tokens: int
    """Of text read."""
    targets: int
    """Those that counted."""
    flops: int
    """Spent."""
    curve: list[tuple[int, float]]
    """Steps made, and the loss of the endings of held-out texts then."""


def train(
    model: LanguageModel,
    design: str,
    seed: int,
    *,
    flops: int,
    scale: int | float = 1.0,
    points: int = POINTS,
) -> Trained:
    """Train until the operations are spent, the learning rate falling with what is left of them.

    The seed decides the rows and what is cut out of them, `scale` is a factor of the usual learning
    rates, and `points` says how often to measure on the way.
    """
    family, objective = DESIGNS[design]
    held_out = evaluation_rows(128)
    rows = random_rows(short_text().train, length=LENGTH, batch=BATCH, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    optimizer = muon_with_adamw(
        model, muon_lr=MUON_LR, lr=LR, weight_decay=0.0, stacked_rows=model.stacked_rows
    )
    peaks = [scale * group["lr"] for group in optimizer.param_groups]
    run = Trained(model, 0, 0, 0, 0, [(0, endings_loss(model, design, held_out))])
    while run.flops < flops:
        done = run.flops / flops
        factor = min((done + 1e-3) / WARMUP, 1.0, 1.5 * (1 - done))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        batch = make_batch(rows(run.steps), family, objective, generator)
        loss = next_token_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.steps, run.tokens = run.steps + 1, run.tokens + BATCH * LENGTH
        run.targets += count_targets(batch)
        run.flops += step_flops(model, batch)
        if run.flops >= flops * len(run.curve) / points:
            run.curve.append((run.steps, endings_loss(model, design, held_out)))
    return run


def measure(run: Run, *, steps: int = STEPS) -> Run:
    """Train a design from one seed and ask it both questions.

    The causal language model is then made a prefix decoder and goes on as one.
    """
    design, seed = run["design"], run["seed"]
    seed_everything(seed)
    trained = train(build(DESIGNS[design][0]), design, seed, flops=budget(steps))
    model, rows = trained.model, evaluation_rows(256)
    measured: Run = {
        "endings_loss": round(endings_loss(model, design, rows), 4),
        "endings_accuracy": round(choice_accuracy(model, design, rows, ENDING), 4),
        "gaps_accuracy": round(choice_accuracy(model, design, rows, GAP), 4),
        "curve": _rounded(trained.curve),
        "steps": trained.steps,
        "tokens": trained.tokens,
        "targets": trained.targets,
        "flops": trained.flops,
        "parameters": sum(p.numel() for p in model.parameters()),
        "unigram_loss": round(short_text().unigram_loss, 4),
        "text_sha256": short_text().sha256,
    }
    if design == LM:
        conversion = max(1, CONVERSION_STEPS * steps // STEPS)
        converted = convert(model)
        went_on = train(
            converted, PREFIX_LM, seed + 100, flops=budget(conversion), scale=0.3, points=20,
        )  # fmt: skip
        measured["converted_curve"] = _rounded(went_on.curve)
    return measured


def _rounded(curve: list[tuple[int, float]]) -> list[list[float]]:
    return [[step, round(loss, 4)] for step, loss in curve]


def convert(model: LanguageModel) -> Transformer:
    """Make a prefix decoder of a causal decoder: a copy of its weights under another mask."""
    converted = Transformer(model.config.replace(mask="prefix"))
    converted.load_state_dict(model.state_dict())
    return converted


@dataclass(frozen=True)
class Row:
    """A design's line in the table.

    Attributes:
        design: Its name.
        values: What each seed measured.
        difference: Mean difference from the causal language model of the same seed, with its 95%
            interval.
        verdict: `higher`, `lower`, or `none` where the interval holds 0.
    """

    design: str
    values: tuple[float, ...]
    difference: Interval
    verdict: str


def compare(runs: Runs, quantity: str, baseline: str = LM) -> list[Row]:
    """Compare every design with a baseline, seed by seed, in the order of `DESIGNS`."""
    rows = []
    for design in DESIGNS:
        found = runs.difference(quantity, design=(design, baseline))
        verdict = "higher" if found.low > 0 else "lower" if found.high < 0 else "none"
        rows.append(Row(design, tuple(runs.values(quantity, design=design)), found, verdict))
    return rows


def steps_to_reach(curve: Sequence[Sequence[int | float]], loss: float) -> float:
    return next((float(step) for step, value in curve if value <= loss), math.inf)


def table(runs: Runs) -> Table:
    view = Table("design", "endings, nats", "difference", "endings", "gaps", "targets",
                 title=f"{budget():.2e} FLOPs each; chance {CHANCE:.0%}")  # fmt: skip
    quantities = ("endings_loss", "endings_accuracy", "gaps_accuracy", "targets")
    for rows in zip(*(compare(runs, quantity) for quantity in quantities), strict=True):
        loss, endings, gaps, targets = (mean(row.values) for row in rows)
        view.add_row(
            rows[0].design, f"{loss:.3f}", f"{rows[0].difference}", f"{endings:.1%}",
            f"{gaps:.1%}", f"{targets:,.0f}",
        )  # fmt: skip
    return view


def _all_spend_the_budget(runs: Runs) -> bool:
    return all(budget() <= run["flops"] < 1.02 * budget() for run in runs) and all(
        len(run["curve"]) == POINTS + 1 for run in runs
    )


def _is_undecided(difference: Interval, margin: float) -> bool:
    return not difference.shows_difference and difference.within(margin)


def _verdicts(runs: Runs, quantity: str) -> dict[str, str]:
    return {row.design: row.verdict for row in compare(runs, quantity) if row.design != LM}


def _gaps_are_lower(runs: Runs) -> bool:
    behind = runs.difference("gaps_accuracy", design=(LM, PREFIX_LM))
    return (
        set(_verdicts(runs, "gaps_accuracy").values()) == {"lower"}
        and "{:.3f} [{:.3f}, {:.3f}]".format(*behind) == "0.025 [0.002, 0.047]"
    )


def _above_chance(runs: Runs) -> bool:
    return all(
        runs.interval(quantity, design=design).low > CHANCE
        for design in (LM, PREFIX_LM)
        for quantity in ("endings_accuracy", "gaps_accuracy")
    )


def _against_frequencies(runs: Runs) -> bool:
    unigram = runs[0]["unigram_loss"]
    best, second = (max(runs.values("endings_loss", design=d)) for d in (LM, PREFIX_LM))
    spans = runs.values("endings_loss", design="encoder-decoder, spans")
    return best < second < unigram < min(spans)


def _denoisers_beat_spans(runs: Runs) -> bool:
    pair = ("causal decoder, denoisers", "causal decoder, spans")
    return max(runs.differences("endings_loss", design=pair)) < -0.5


def _prefix_lm_is_behind(runs: Runs) -> bool:
    behind = runs.difference("endings_loss", design=(PREFIX_LM, LM))
    both = runs.where(design=lambda design: design in (LM, PREFIX_LM))
    shares = runs.values(lambda run: run["targets"] / run["tokens"], design=PREFIX_LM)
    return (
        str(behind) == "0.20 [0.19, 0.22]"
        and len({run["tokens"] for run in both}) == 1
        and all(0.45 < share < 0.55 for share in shares)
    )


def _conversion_starts_ahead(runs: Runs) -> bool:
    scratch, causal = (runs.where(design=design) for design in (PREFIX_LM, LM))
    return all(
        two["converted_curve"][0][1] < one["curve"][-1][1]
        and abs(two["converted_curve"][0][1] - two["curve"][-1][1]) < 0.05
        for one, two in zip(scratch, causal, strict=True)
    )


def _conversion_brings_nothing_more(runs: Runs) -> bool:
    gained = runs.interval(
        lambda run: run["converted_curve"][-1][1] - run["converted_curve"][0][1], design=LM
    )
    return _is_undecided(gained, 0.12)


EXPERIMENT = Experiment(
    conditions={"design": list(DESIGNS)},
    seeds=SEEDS,
    measure=measure,
    equal=("text_sha256", "unigram_loss"),
    depends=("llmlib.training.objectives.denoising", "llmlib.training.objectives.masked_spans"),
    table=table,
    claims={
        "arch.task-comparison": {
            "every design spends the same FLOPs, to within 2%": _all_spend_the_budget,
            "the causal language model predicts endings better than every other design": (
                lambda runs: set(_verdicts(runs, "endings_loss").values()) == {"higher"}
            ),
            "it fills gaps better than every other design, than the prefix language model by a "
            "hair, 0.025 [0.002, 0.047]": _gaps_are_lower,
            "no difference is shown between the two in choosing endings, below 0.13": (
                lambda runs: _is_undecided(
                    runs.difference("endings_accuracy", design=(PREFIX_LM, LM)), 0.13
                )
            ),
            "both choose endings and gaps better than chance": _above_chance,
            "frequencies alone predict endings worse than both, and better than the "
            "encoder-decoder of span corruption": _against_frequencies,
            "a decoder of several denoisers is over 0.5 nats better at endings than one of span "
            "corruption, with every seed": _denoisers_beat_spans,
        },
        "arch.task-lm": {
            "at equal tokens read the prefix language model is 0.20 [0.19, 0.22] nats a token "
            "behind, with half of the targets to learn from": _prefix_lm_is_behind,
        },
        "arch.prefix-decoder": {
            "a causal decoder under the prefix mask is at once within 0.05 nats of its own loss "
            "and better than a prefix decoder from scratch at its end, with every seed": (
                _conversion_starts_ahead
            ),
            "80 more steps under that mask bring nothing that three seeds show, below 0.12 nats": (
                _conversion_brings_nothing_more
            ),
        },
    },
)
