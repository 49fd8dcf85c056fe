"""Families and objectives at equal compute: what each model can do right after pre-training.

`python -m llmlib.experiments.objectives_compared` makes the runs that `data/results` still lacks,
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
from jaxtyping import Bool, Float, Int
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, Transformer
from llmlib.architecture.corruption import SpecialTokens
from llmlib.architecture.counts import forward_flops
from llmlib.architecture.encoder_decoder import EncoderDecoder, encoder_decoder_flops
from llmlib.architecture.objectives import (
    IGNORE,
    DecoderBatch,
    EncoderDecoderBatch,
    as_one_sequence,
    denoise,
    language_modeling,
    mixture_of_denoisers,
    prefix_language_modeling,
    span_corruption,
    split_prefix,
)
from llmlib.core.seeding import seed_everything
from llmlib.experiments.short_runs import VOCAB_SIZE, Run, run_missing, short_text, t_interval
from llmlib.training import muon_with_adamw
from llmlib.training.loss import linear_cross_entropy

Model = Transformer | EncoderDecoder
Batch = DecoderBatch | EncoderDecoderBatch

NAME = "objectives_compared"
LENGTH, BATCH, LAYERS = 64, 16, 2
STEPS, WARMUP, POINTS = 240, 0.05, 8
MUON_LR, LR = 0.04, 2e-2
CONVERSION_STEPS = 80
SEEDS = (0, 1, 2)
CHANCE = 0.25
SPECIAL = SpecialTokens(n_text_tokens=VOCAB_SIZE, n_sentinels=16)

ENDING = torch.arange(LENGTH) >= 48  # what "continue" asks for: the last 16 of 64 tokens
GAP = (torch.arange(LENGTH) >= 40) & (torch.arange(LENGTH) < 45)  # what "fill the gap" asks for

DESIGNS: dict[str, tuple[str, str]] = {
    "causal decoder, LM": ("causal", "lm"),
    "prefix decoder, prefix LM": ("prefix", "prefix-lm"),
    "encoder-decoder, prefix LM": ("encoder-decoder", "prefix-lm"),
    "causal decoder, spans": ("causal", "spans"),
    "encoder-decoder, spans": ("encoder-decoder", "spans"),
    "causal decoder, denoisers": ("causal", "denoisers"),
    "prefix decoder, denoisers": ("prefix", "denoisers"),
}
"""Family and objective by the design's name."""

LM, PREFIX_LM = "causal decoder, LM", "prefix decoder, prefix LM"


def build(family: str) -> Model:
    """Build a model: a decoder of two layers, or two stacks of two layers.

    Two stacks have nearly twice the parameters, and work as much on a token as one: each token
    passes through one of them.

    Args:
        family: `causal`, `prefix` or `encoder-decoder`.

    Returns:
        The model, freshly drawn.
    """
    config = ModelConfig(
        vocab_size=SPECIAL.vocab_size, d_model=64, n_layers=LAYERS, n_heads=4, max_seq_len=128,
        mask="prefix" if family == "prefix" else "causal",
    )  # fmt: skip
    return EncoderDecoder(config) if family == "encoder-decoder" else Transformer(config)


def make_batch(
    rows: Int[Tensor, "B T1"], family: str, objective: str, generator: torch.Generator
) -> Batch:
    """Turn rows of text into what a design learns from.

    Args:
        rows: Token ids, one more than `LENGTH` a row.
        family: See `build`.
        objective: `lm`, `prefix-lm`, `spans` or `denoisers`.
        generator: Source of randomness.

    Returns:
        A batch for one sequence or for two.
    """
    if objective == "lm":
        return language_modeling(rows)
    if objective == "prefix-lm" and family != "encoder-decoder":
        return prefix_language_modeling(rows, generator=generator)
    if objective == "prefix-lm":  # one length a batch, so that nothing is padding
        length = int(torch.randint(1, LENGTH + 1, (1,), generator=generator))
        return split_prefix(rows, SPECIAL, length)
    corrupt = span_corruption if objective == "spans" else mixture_of_denoisers
    batch = corrupt(rows[:, :LENGTH], SPECIAL, generator=generator)
    return batch if family == "encoder-decoder" else as_one_sequence(batch, SPECIAL)


def hidden(model: Model, batch: Batch) -> Float[Tensor, "B T D"]:
    """Return the last hidden states where the batch has its targets.

    Args:
        model: The model.
        batch: A batch of its kind.

    Returns:
        One vector a target.
    """
    if isinstance(model, EncoderDecoder):
        assert isinstance(batch, EncoderDecoderBatch)
        return model.hidden(batch.encoder_inputs, batch.decoder_inputs, batch.encoder_lengths)
    assert isinstance(batch, DecoderBatch)
    if model.config.mask == "prefix":
        return model.hidden(batch.inputs, prefix_lengths=batch.prefix_lengths)
    return model.hidden(batch.inputs)


def training_flops(model: Model, batch: Batch) -> int:
    """Count the operations of a training step, padding included: it is computed too.

    Args:
        model: The model.
        batch: A batch of its kind.

    Returns:
        Operations.
    """
    if isinstance(batch, DecoderBatch):
        return 3 * forward_flops(model.config, *batch.inputs.shape)
    rows, n_encoded = batch.encoder_inputs.shape
    n_decoded = batch.decoder_inputs.shape[1]
    return 3 * encoder_decoder_flops(model.config, LAYERS, rows, n_encoded, n_decoded)


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
        loss = linear_cross_entropy(hidden(model, batch), model.output_weight, batch.targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        run.steps, run.tokens = run.steps + 1, run.tokens + BATCH * LENGTH
        run.targets += int((batch.targets != IGNORE).sum())
        run.flops += training_flops(model, batch)
        if run.flops >= flops * len(run.curve) / points:
            run.curve.append((run.steps, endings_loss(model, design, held_out)))
    return run


def evaluation_rows(n_rows: int) -> Int[Tensor, "rows T"]:
    """Cut evenly spaced rows out of the held-out text.

    Args:
        n_rows: How many.

    Returns:
        Token ids, `LENGTH` a row.
    """
    tokens = short_text().held_out
    starts = torch.linspace(0, len(tokens) - LENGTH, n_rows).long().unsqueeze(1)
    return tokens[starts + torch.arange(LENGTH)]


def question(
    rows: Int[Tensor, "B T"], asked: Bool[Tensor, " T"], family: str, objective: str
) -> tuple[Batch, Bool[Tensor, "B T2"]]:
    """Put a part of each row to a design in the form that it was trained on.

    A language model reads what stands before the part and says the part and what follows. A
    denoiser reads the row with a sentinel in the part's place, and says the part.

    Args:
        rows: Token ids of texts.
        asked: True where a token belongs to the part.
        family: See `build`.
        objective: See `make_batch`.

    Returns:
        The batch, and which of its targets make up the answer. A language model's answer goes on
        to the end of the row: whatever follows a wrong part becomes unlikely.
    """
    if objective in ("lm", "prefix-lm"):
        batch = split_prefix(rows, SPECIAL, int(asked.nonzero()[0]))
    else:
        batch = denoise(rows, asked.expand_as(rows), SPECIAL)
        if objective == "denoisers":
            mode = torch.full((len(rows), 1), SPECIAL.mode("S" if asked[-1] else "R"))
            batch = EncoderDecoderBatch(
                torch.cat((mode, batch.encoder_inputs), dim=1), batch.encoder_lengths + 1,
                batch.decoder_inputs, batch.targets,
            )  # fmt: skip
    one = batch if family == "encoder-decoder" else as_one_sequence(batch, SPECIAL)
    return one, (one.targets != IGNORE) & (one.targets < VOCAB_SIZE)


@torch.no_grad()
def answer_losses(
    model: Model, design: str, rows: Int[Tensor, "B T"], asked: Bool[Tensor, " T"]
) -> Float[Tensor, " B"]:
    """Return how unlikely a design finds the answer in each row.

    Args:
        model: The model.
        design: One of `DESIGNS`.
        rows: Token ids of texts.
        asked: True where a token belongs to the part asked for.

    Returns:
        Nats a row, summed over the answer's tokens.
    """
    losses = []
    for part in rows.split(256):
        batch, counts = question(part, asked, *DESIGNS[design])
        logits = model.unembed(hidden(model, batch))
        loss = F.cross_entropy(logits.mT, batch.targets, ignore_index=IGNORE, reduction="none")
        losses.append((loss * counts).sum(dim=1))
    return torch.cat(losses)


def endings_loss(model: Model, design: str, rows: Int[Tensor, "B T"]) -> float:
    """Return the mean loss of the endings of texts.

    Args:
        model: The model.
        design: One of `DESIGNS`.
        rows: Token ids of texts.

    Returns:
        Nats a token.
    """
    return answer_losses(model, design, rows, ENDING).mean().item() / int(ENDING.sum())


def choice_accuracy(
    model: Model, design: str, rows: Int[Tensor, "B T"], asked: Bool[Tensor, " T"]
) -> float:
    """Let a design choose the true part of each row among four.

    The other three are the same places of other rows, a quarter, a half and three quarters of all
    rows further on. It chooses what it finds likeliest in the row. Four rows share the same four
    parts, so a model that does not look at the rest of a row is right exactly once in four times.

    Args:
        model: The model.
        design: One of `DESIGNS`.
        rows: Token ids of texts.
        asked: True where a token belongs to the part.

    Returns:
        Share of rows where the choice was right; `CHANCE` for a guess.
    """
    candidates = []
    for quarter in range(4):
        other = rows.roll(quarter * len(rows) // 4, dims=0)
        candidates.append(torch.where(asked, other, rows))
    losses = torch.stack([answer_losses(model, design, c, asked) for c in candidates])
    return (losses[0] < losses[1:].amin(dim=0)).float().mean().item()  # a tie is no choice


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
    from llmlib.experiments.short_runs import read_runs

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
