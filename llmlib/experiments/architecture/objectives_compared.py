"""Families and objectives at equal compute: what each model can do right after pre-training.

`python -m llmlib.experiments objectives_compared` makes the runs that `data/results` still lacks,
and `--table` prints what is there. Every design spends the same number of training FLOPs on the
same text and is then asked two things that no one trained it for as such: to continue a text, and
to fill a gap in one.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Int
from rich.console import Console
from rich.table import Table
from torch import Tensor

from llmlib.architecture import Transformer
from llmlib.architecture.counts import forward_flops
from llmlib.core.batch import count_targets
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import t_interval
from llmlib.experiments.architecture.objective_designs import (
    BATCH,
    DESIGNS,
    LENGTH,
    LM,
    PREFIX_LM,
    Model,
    build,
    make_batch,
    training_flops,
)
from llmlib.experiments.architecture.objective_questions import (
    CHANCE,
    ENDING,
    GAP,
    choice_accuracy,
    endings_loss,
    evaluation_rows,
)
from llmlib.experiments.experiment import Run
from llmlib.experiments.records import read_runs
from llmlib.experiments.short_runs import run_missing
from llmlib.experiments.short_text import short_text
from llmlib.training import muon_with_adamw, next_token_loss

NAME = "objectives_compared"
STEPS, WARMUP, POINTS = 240, 0.05, 8
MUON_LR, LR = 0.04, 2e-2
CONVERSION_STEPS = 80
SEEDS = (0, 1, 2)


def budget(steps: int = STEPS) -> int:
    """Return the operations that every design may spend.

    Args:
        steps: As many as this number of steps of the causal language model.

    Returns:
        Operations.
    """
    config = build("causal").config
    return steps * 3 * forward_flops(config, BATCH, LENGTH)


def draw_rows(
    tokens: Int[Tensor, " n"], generator: torch.Generator
) -> Iterator[Int[Tensor, "B T1"]]:
    """Yield rows from random places of a text, for ever.

    Args:
        tokens: The text.
        generator: Source of randomness; equal seeds see equal rows.

    Yields:
        Token ids, one more than `LENGTH` a row.
    """
    while True:
        starts = torch.randint(len(tokens) - LENGTH, (BATCH, 1), generator=generator)
        yield tokens[starts + torch.arange(LENGTH + 1)]


@dataclass
class Trained:
    """A trained model and how it got there.

    Attributes:
        model: The model.
        steps: Updates made.
        tokens: Tokens of text read.
        targets: Targets that counted.
        flops: Operations spent.
        curve: Steps made, and the loss of the endings of held-out texts then.
    """

    model: Model
    steps: int
    tokens: int
    targets: int
    flops: int
    curve: list[tuple[int, float]]


def train(
    model: Model,
    design: str,
    seed: int,
    *,
    flops: int,
    scale: int | float = 1.0,
    points: int = POINTS,
) -> Trained:
    """Train until the operations are spent, the learning rate falling with what is left of them.

    Args:
        model: The model; changed in place.
        design: One of `DESIGNS`.
        seed: Decides the rows and what is cut out of them.
        flops: Operations to spend.
        scale: Factor of the usual learning rates.
        points: How often to measure on the way.

    Returns:
        The model and its history.
    """
    family, objective = DESIGNS[design]
    text = short_text()
    held_out = evaluation_rows(128)
    rows = draw_rows(text.train, torch.Generator().manual_seed(seed))
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
        batch = make_batch(next(rows), family, objective, generator)
        loss = next_token_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.steps, run.tokens = run.steps + 1, run.tokens + BATCH * LENGTH
        run.targets += count_targets(batch)
        run.flops += training_flops(model, batch)
        if run.flops >= flops * len(run.curve) / points:
            run.curve.append((run.steps, endings_loss(model, design, held_out)))
    return run


def perform(run: Run, *, steps: int = STEPS) -> Run:
    """Train a design from one seed and ask it both questions.

    The causal language model is then made a prefix decoder and goes on as one.

    Args:
        run: `design` and `seed`.
        steps: See `budget`.

    Returns:
        What was measured.
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


def convert(model: Model) -> Transformer:
    """Make a prefix decoder of a causal decoder: the same weights under another mask.

    Args:
        model: A causal decoder.

    Returns:
        A new model with a copy of its weights.
    """
    converted = Transformer(model.config.replace(mask="prefix"))
    converted.load_state_dict(model.state_dict())
    return converted


def plan() -> list[Run]:
    """List all runs, one seed of every design after the other.

    Returns:
        Design and seed of each run.
    """
    return [{"design": design, "seed": seed} for seed in SEEDS for design in DESIGNS]


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
    difference: tuple[float, float, float]
    verdict: str


def compare(runs: Sequence[Run], quantity: str, baseline: str = LM) -> list[Row]:
    """Compare every design with a baseline, seed by seed.

    Args:
        runs: Lines of the results file.
        quantity: A key of the lines, as `endings_loss`.
        baseline: What the others are compared with.

    Returns:
        A row a design, in the order of `DESIGNS`.
    """
    found = {(run["design"], run["seed"]): float(run[quantity]) for run in runs}
    rows = []
    for design in DESIGNS:
        values = tuple(found[design, seed] for seed in SEEDS)
        against = [found[baseline, seed] for seed in SEEDS]
        differences = [a - b for a, b in zip(values, against, strict=True)]
        middle, low, high = t_interval(differences)
        verdict = "higher" if low > 0 else "lower" if high < 0 else "none"
        rows.append(Row(design, values, (middle, low, high), verdict))
    return rows


def steps_to_reach(curve: Sequence[Sequence[int | float]], loss: float) -> float:
    """Return after how many steps a curve is first at or below a loss.

    Args:
        curve: Pairs of steps made and loss.
        loss: What to reach.

    Returns:
        Steps; infinite if it is never reached.
    """
    return next((float(step) for step, value in curve if value <= loss), math.inf)


def show(runs: Sequence[Run]) -> None:
    """Print the table.

    Args:
        runs: Lines of the results file.
    """
    view = Table("design", "endings, nats", "difference", "endings", "gaps", "targets",
                 title=f"{budget():.2e} FLOPs each; chance {CHANCE:.0%}")  # fmt: skip
    rows = zip(
        compare(runs, "endings_loss"), compare(runs, "endings_accuracy"),
        compare(runs, "gaps_accuracy"), compare(runs, "targets"), strict=True,
    )  # fmt: skip
    for loss, endings, gaps, targets in rows:
        middle, low, high = loss.difference
        view.add_row(
            loss.design, f"{mean(loss.values):.3f}", f"{middle:+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{mean(endings.values):.1%}", f"{mean(gaps.values):.1%}",
            f"{mean(targets.values):,.0f}",
        )  # fmt: skip
    Console(width=120).print(view)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the missing runs, or print the table.

    Args:
        arguments: The command line; default: the program's own.
    """
    parser = argparse.ArgumentParser(description=__doc__, prog=f"python -m {__spec__.name}")
    parser.add_argument("--record", type=Path, default=Path("data/results") / f"{NAME}.jsonl")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after")
    parser.add_argument("--table", action="store_true", help="print the committed table")
    options: Any = parser.parse_args(arguments)
    if options.table:
        show(read_runs(NAME))
        return
    torch.set_num_threads(1)
    missing = run_missing(NAME, plan(), perform, options.record, minutes=options.minutes)
    print(f"{missing} runs are missing: give the same command again" if missing else "done")


if __name__ == "__main__":
    main()
