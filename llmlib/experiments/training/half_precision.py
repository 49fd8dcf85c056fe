"""Where the gradients of a small decoder lie, and what weights of 8 digits forget, five seeds."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmlib.architecture.transformer import Transformer
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
from llmlib.training.formats.elements import BFLOAT16
from llmlib.training.formats.rounding import round_stochastically, round_to_nearest
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss

SEEDS = (0, 1, 2, 3, 4)
STEPS, BATCH, LENGTH, WARM_UP = 160, 8, 64, 16
WIDTH, LAYERS = 64, 2
PEAK_LR = 1e-3
MARGIN = 0.05
"""Nats a token: what counts as equal to float32, fixed before the first run."""
LOWEST, HIGHEST = -64, 16
"""Exponents of the binades that are counted; what lies outside counts in the last."""

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "float32": lambda w: w,
    "bfloat16": lambda w: round_to_nearest(w, BFLOAT16),
    "bfloat16 by chance": lambda w: round_stochastically(w, BFLOAT16),
}
"""In which format weights are kept between two updates; gradients and Adam's state are float32."""


def gradient_exponents(model: Transformer, batch: dict[str, Tensor]) -> list[int]:
    """Count the binades of the gradients at the outputs of all linear layers, from LOWEST up.

    The loss is the mean over the batch. Gradients that are exactly zero are not counted.
    """
    counts = torch.zeros(HIGHEST - LOWEST + 1, dtype=torch.int64)

    def count(gradient: Tensor) -> None:
        exponents = gradient[gradient != 0].abs().log2().floor().clamp(LOWEST, HIGHEST)
        counts.add_(torch.bincount(exponents.long() - LOWEST, minlength=len(counts)))

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        output.register_hook(count)

    hooks = [m.register_forward_hook(watch) for m in model.modules() if type(m) is nn.Linear]
    try:
        next_token_loss(model, batch).backward()
    finally:
        for hook in hooks:
            hook.remove()
    return counts.tolist()


def measure(run: Run, *, steps: int = STEPS, rows: int = 320) -> Run:
    """Train with Adam, the weights rounded after each update; count the gradients' binades at last.

    Losses are in nats a token; `unmoved` is the share of weights that an update leaves as they
    were, over the last tenth of the run.
    """
    text, seed = short_text(), run["seed"]
    rounded = WEIGHTS[run["weights"]]
    model = small_decoder(512, seed, length=LENGTH, d_model=WIDTH, n_layers=LAYERS)
    seed_everything(seed)
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.98), foreach=True)
    lr = warmup_hold_decay(PEAK_LR, steps, warmup=WARM_UP, share=2 / 3)
    batches = random_rows(text.train, length=LENGTH, batch=BATCH, seed=seed)
    losses, unmoved = list[float](), list[float]()
    for p in parameters:
        p.data = rounded(p.data)
    for step, batch in zip(range(steps), map(batches, itertools.count()), strict=False):
        loss = next_token_loss(model, language_modeling(batch))
        losses.append(loss.item())
        optimizer.param_groups[0]["lr"] = lr(step)
        optimizer.zero_grad()
        loss.backward()
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        for p in parameters:
            p.data = rounded(p.data)
        if step >= 0.9 * steps:
            same = sum((p == old).sum() for p, old in zip(parameters, before, strict=True))
            unmoved.append(float(same) / sum(p.numel() for p in parameters))
    held_out = round(loss_on_text(model, text.held_out, rows=rows, length=LENGTH), 4)
    model.zero_grad()
    probe = language_modeling(text.held_out[: 16 * (LENGTH + 1)].view(16, LENGTH + 1))
    return {
        "held_out_loss": held_out,
        "losses": [round(x, 3) for x in losses[::10]],
        "unmoved": round(sum(unmoved) / len(unmoved), 4),
        "exponents": gradient_exponents(model, probe),
        "unigram_loss": round(text.unigram_loss, 4),
        "parameters": sum(p.numel() for p in parameters),
        "tokens": steps * BATCH * LENGTH,
        "text_sha256": text.sha256,
    }


def flushed(run: Run, log2_scale: int) -> float:
    """Return the share of a run's gradients that float16 makes zero, the loss times 2^log2_scale.

    What is below half of float16's smallest number, 2^-24, is rounded to zero.
    """
    binades = dict(zip(range(LOWEST, HIGHEST + 1), run["exponents"], strict=True))
    lost = sum(count for exponent, count in binades.items() if exponent + log2_scale < -25)
    return lost / sum(binades.values())


def _share_flushed(runs: Runs, log2_scale: int) -> Interval:
    return runs.interval(lambda run: flushed(run, log2_scale), weights="float32")


def _difference(runs: Runs, weights: str) -> Interval:
    return runs.difference("held_out_loss", weights=(weights, "float32"))


EXPERIMENT = Experiment(
    conditions={"weights": tuple(WEIGHTS)},
    seeds=SEEDS,
    measure=measure,
    equal=("parameters", "tokens", "unigram_loss", "text_sha256"),
    depends=("llmlib.training.formats.elements", "llmlib.training.formats.rounding"),
    claims={
        "train.mixed-precision": {
            "of the gradients of a loss over 1,024 tokens float16 flushes 3% to 8% to zero": (
                lambda runs: (
                    _share_flushed(runs, 0).low > 0.03 and _share_flushed(runs, 0).high < 0.08
                )
            ),
            "over half a million tokens it would flush more than 80%": lambda runs: (
                _share_flushed(runs, -9).low > 0.8
            ),
            "a loss times 2^15 leaves less than 0.2% to be flushed, and none overflows": (
                lambda runs: (
                    _share_flushed(runs, 15).high < 0.002
                    and not any(
                        any(run["exponents"][16 - 15 - LOWEST :])
                        for run in runs.where(weights="float32")
                    )
                )
            ),
            "weights rounded to bfloat16 after each update end worse than float32's": lambda runs: (
                _difference(runs, "bfloat16").low > 0
            ),
            "rounded by chance they end within 0.05 nats of float32's, no difference shown": (
                lambda runs: (
                    _difference(runs, "bfloat16 by chance").within(MARGIN)
                    and not _difference(runs, "bfloat16 by chance").shows_difference
                )
            ),
            "late in the run an update leaves 75% of bfloat16's weights unmoved": lambda runs: (
                runs.interval("unmoved", weights="bfloat16").low > 0.75
            ),
        },
    },
)
