"""What late updates cost: PipeDream against 1F1B at equal tokens, with and without its stash."""

import statistics

import torch
from torch import nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval, paired_interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import loss_on_text, random_rows
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.parallel.pipelines.weight_versions import train_with_delays

STAGES, LENGTH, ROWS, WIDTH = 4, 64, 4, 64
MICRO_BATCHES = 120
RATES = (1e-3, 4e-3)
SEEDS = (0, 1, 2, 3, 4)
UPDATES = {
    "flushed": (1, STAGES, True),  # 1F1B: one update from four micro-batches
    "at once": (1, 1, True),  # one from each, none of them late: no pipeline can do it
    "late": (STAGES, 1, True),  # PipeDream
    "late, unstashed": (STAGES, 1, False),
}
"""Stages whose delays the updates have, micro-batches an update, and whether weights are stashed.

Stages of 1F1B delay nothing: it is large batches on one process."""


def measure(run: Run, *, micro_batches: int = MICRO_BATCHES, rows: int = 96) -> Run:
    """Train a small decoder with Adam at a constant rate; losses are in nats a token."""
    text = short_text()
    stages, together, stashing = UPDATES[run["updates"]]
    seed_everything(run["seed"])
    model = Transformer(
        ModelConfig(
            vocab_size=VOCAB_SIZE, d_model=WIDTH, n_layers=STAGES, n_heads=2, max_seq_len=LENGTH,
            tie_embeddings=False,
        )
    )  # fmt: skip
    draw = random_rows(text.train, length=LENGTH, batch=ROWS, seed=run["seed"])
    batches = (
        language_modeling(torch.cat([draw(step) for _ in range(together)]))
        for step in range(micro_batches // together)
    )

    def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=run["rate"], betas=(0.9, 0.98))

    losses = train_with_delays(model, batches, stages, adam, stashing=stashing)
    return {
        "held_out_loss": round(loss_on_text(model, text.held_out, rows=rows, length=LENGTH), 4),
        "losses": [round(x, 3) for x in losses[:: max(1, 8 // together)]],
        "updates_made": len(losses),
        "tokens": micro_batches * ROWS * LENGTH,
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text.sha256,
    }


def difference(runs: Runs, one: str, other: str, rate: float) -> Interval:
    """Return by how many nats one kind of updates ends above another, paired by seed."""
    return runs.difference("held_out_loss", updates=(one, other), rate=rate)


def better_rates(runs: Runs, one: str, other: str) -> Interval:
    """Return the same difference when each kind has the rate with the lower mean loss."""
    first, second = (
        min(
            (runs.values("held_out_loss", updates=kind, rate=rate) for rate in RATES),
            key=statistics.mean,
        )
        for kind in (one, other)
    )
    return paired_interval(first, second)


EXPERIMENT = Experiment(
    conditions={"updates": tuple(UPDATES), "rate": RATES},
    seeds=SEEDS,
    measure=measure,
    equal=("parameters", "tokens", "text_sha256"),
    depends=("llmlib.training.parallel.pipelines.weight_versions",),
    claims={
        "train.pipeline-async": {
            "at the lower rate PipeDream ends below 1F1B, at four times that rate above it": (
                lambda runs: (
                    difference(runs, "late", "flushed", RATES[0]).high < 0
                    and difference(runs, "late", "flushed", RATES[1]).low > 0
                )
            ),
            "each at its better rate, PipeDream is not shown to end below 1F1B": lambda runs: (
                better_rates(runs, "late", "flushed").high > 0
            ),
            "late updates end above the same updates at once, at both rates": lambda runs: all(
                difference(runs, "late", "at once", rate).low > 0 for rate in RATES
            ),
            "the stash lowers the loss at the lower rate": lambda runs: (
                difference(runs, "late, unstashed", "late", RATES[0]).low > 0
            ),
        },
    },
)
