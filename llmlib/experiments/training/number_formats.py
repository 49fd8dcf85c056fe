"""A small decoder trained in each number format, against float32, five seeds."""

import itertools
from dataclasses import replace

import torch

from llmlib.core.seeding import seed_everything
from llmlib.core.statistics import Interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import short_text
from llmlib.experiments.short_training import (
    loss_on_text,
    random_rows,
    small_decoder,
    warmup_hold_decay,
)
from llmlib.training.formats.blocks import FP8_GRADIENT, FP8_TENSOR, MXFP4, MXFP8, NVFP4
from llmlib.training.formats.elements import BFLOAT16, FLOAT16, ElementFormat
from llmlib.training.formats.linear import ProductRecipe, lower_precision
from llmlib.training.loss_scaling import LossScaler
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss

SEEDS = (10, 11, 12, 13, 14)
STEPS, BATCH, LENGTH, PEAK_LR, WARM_UP = 120, 8, 64, 2e-3, 12
WIDTH, LAYERS = 64, 2
MARGIN = 0.05
"""Nats a token: what counts as equal to float32, fixed before the first run."""
SHARE = 2.0**-10
"""The batch is one of 1,024 micro-batches of an update, whose mean is taken before the backward
pass; half a million tokens an update. The other 1,023 are taken to be equal to it."""


def _plain(form: ElementFormat) -> ProductRecipe:
    return ProductRecipe(operands=form, gradients=form, results=form)


_MXFP4 = ProductRecipe(operands=MXFP4, gradients=MXFP4, results=BFLOAT16)
RECIPES: dict[str, ProductRecipe | None] = {
    "float32": None,
    "bfloat16": _plain(BFLOAT16),
    "float16": _plain(FLOAT16),
    "float16 without loss scaling": _plain(FLOAT16),
    "FP8": ProductRecipe(operands=FP8_TENSOR, gradients=FP8_GRADIENT, results=BFLOAT16),
    "MXFP8": ProductRecipe(operands=MXFP8, gradients=MXFP8, results=BFLOAT16),
    "MXFP4": _MXFP4,
    "MXFP4, gradients by chance": replace(_MXFP4, stochastic=True, hadamard=True),
    "NVFP4, gradients by chance": ProductRecipe(
        operands=NVFP4, gradients=NVFP4, results=BFLOAT16, stochastic=True, hadamard=True
    ),
}
"""What the products of the blocks' linear layers see; attention, norms, embedding and output matrix
stay in float32, and so do weights and optimizer."""


def measure(run: Run, *, steps: int = STEPS, rows: int = 320) -> Run:
    """Train with Adam in one format; the rate warms up, holds, and falls linearly.

    Losses are in nats a token.
    """
    text, name, seed = short_text(), run["format"], run["seed"]
    model = small_decoder(512, seed, length=LENGTH, d_model=WIDTH, n_layers=LAYERS)
    recipe = RECIPES[name]
    if recipe is not None:
        lower_precision(model, recipe)
    seed_everything(seed)  # rounding by chance draws from here
    scaler = LossScaler(growth_interval=20) if name == "float16" else None
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.98), foreach=True)
    lr = warmup_hold_decay(PEAK_LR, steps, warmup=WARM_UP, share=2 / 3)
    batches = random_rows(text.train, length=LENGTH, batch=BATCH, seed=seed)
    losses, skipped = list[float](), 0
    for step, batch in zip(range(steps), map(batches, itertools.count()), strict=False):
        loss = next_token_loss(model, language_modeling(batch))
        losses.append(loss.item())
        optimizer.param_groups[0]["lr"] = lr(step)
        optimizer.zero_grad()
        mean = loss * SHARE
        (scaler.scale(mean) if scaler else mean).backward()
        gradients = [p.grad for p in parameters if p.grad is not None]
        finite = scaler is None or bool(scaler.unscale(gradients))
        if scaler:
            scaler.update(finite)
        torch._foreach_mul_(gradients, 1 / SHARE)  # the sum over the micro-batches  # pyright: ignore[reportPrivateImportUsage]
        if finite:
            optimizer.step()
        skipped += not finite
    return {
        "held_out_loss": round(loss_on_text(model, text.held_out, rows=rows, length=LENGTH), 4),
        "losses": [round(x, 3) for x in losses[::10]],
        "skipped": skipped,
        "loss_scale": scaler.factor if scaler else 1.0,
        "unigram_loss": round(text.unigram_loss, 4),
        "parameters": sum(p.numel() for p in parameters),
        "tokens": steps * BATCH * LENGTH,
        "text_sha256": text.sha256,
    }


def to_float32(runs: Runs, name: str) -> Interval:
    """Return how much higher than float32's the held-out loss is, paired by seed."""
    return runs.difference("held_out_loss", format=(name, "float32"))


_MXFP4_NAMES = ("MXFP4", "MXFP4, gradients by chance")


def _decided(difference: Interval) -> bool:
    return difference.shows_difference or difference.within(MARGIN)


EXPERIMENT = Experiment(
    conditions={"format": tuple(RECIPES)},
    seeds=SEEDS,
    measure=measure,
    equal=("parameters", "tokens", "unigram_loss", "text_sha256"),
    depends=(
        "llmlib.training.formats.elements",
        "llmlib.training.formats.rounding",
        "llmlib.training.formats.blocks",
        "llmlib.training.formats.linear",
        "llmlib.training.loss_scaling",
    ),
    claims={
        "train.mixed-precision": {
            "bfloat16, and float16 with scaling, end within 0.05 nats of float32": lambda runs: all(
                to_float32(runs, name).within(MARGIN) for name in ("bfloat16", "float16")
            ),
            "float16 without loss scaling ends more than 0.05 nats above float32": lambda runs: (
                to_float32(runs, "float16 without loss scaling").low > MARGIN
            ),
        },
        "train.number-formats": {
            "FP8 and MXFP8 end within 0.05 nats of float32": lambda runs: all(
                to_float32(runs, name).within(MARGIN) for name in ("FP8", "MXFP8")
            ),
            "NVFP4 with gradients by chance ends within 0.05 nats of float32": lambda runs: (
                to_float32(runs, "NVFP4, gradients by chance").within(MARGIN)
            ),
            "of MXFP4 neither a difference to float32 nor equality within 0.05 nats is shown": (
                lambda runs: not any(_decided(to_float32(runs, name)) for name in _MXFP4_NAMES)
            ),
            "every format learns: all end below the loss of token frequencies": lambda runs: all(
                run["held_out_loss"] < run["unigram_loss"] for run in runs
            ),
        },
    },
)
