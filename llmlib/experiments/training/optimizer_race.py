"""Seven optimizers at equal tokens on real text, each at the rate that is best for it."""

import math
from collections.abc import Callable
from functools import partial

import torch

from llmlib.architecture.transformer import Transformer
from llmlib.core.statistics import Interval, holm, t_interval, t_test
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import (
    loss_on_text,
    random_rows,
    small_decoder,
    warmup_hold_decay,
)
from llmlib.training.checkpointing.named_state import AnyOptimizer
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.adafactor import Adafactor
from llmlib.training.optimizers.adam import AdamW
from llmlib.training.optimizers.base import state_bytes
from llmlib.training.optimizers.combined import muon_with_adamw
from llmlib.training.optimizers.lion import Lion
from llmlib.training.optimizers.polar_express import polar_express
from llmlib.training.optimizers.schedule_free import ScheduleFreeAdamW
from llmlib.training.optimizers.sgd import SGD
from llmlib.training.optimizers.soap import SOAP

STEPS, BATCH, LENGTH, WIDTH, LAYERS = 240, 8, 64, 64, 2
WARM_UP = STEPS // 20
TUNING_SEED, SEEDS = 100, (0, 1, 2, 3, 4)


def _muon(model: Transformer, lr: float, *, polar: bool = False) -> AnyOptimizer:
    optimizer = muon_with_adamw(
        model, muon_lr=lr, lr=lr, scale="rms", weight_decay=0.0, stacked_rows=model.stacked_rows
    )
    for group in optimizer.param_groups:
        if polar and "coefficients" in group:
            group["coefficients"] = polar_express(group["steps"])
    return optimizer


# Settings are those of the papers, and AdamW's that of LLaMA. There is no weight decay: in a third
# of a pass over the text nothing is learnt by heart, and the rate is all there is to tune.
BUILD: dict[str, Callable[[Transformer, float], AnyOptimizer | torch.optim.Optimizer]] = {
    "sgd": lambda model, lr: SGD(model.parameters(), lr, momentum=0.9),
    "adamw": lambda model, lr: AdamW(model.parameters(), lr, betas=(0.9, 0.95)),
    "adafactor": lambda model, lr: Adafactor(model.parameters(), lr),
    "lion": lambda model, lr: Lion(model.parameters(), lr),
    "muon": _muon,
    "muon, polar express": partial(_muon, polar=True),
    "soap": lambda model, lr: SOAP(model.parameters(), lr, largest=4 * WIDTH),
    "schedule-free": lambda model, lr: ScheduleFreeAdamW(
        model.parameters(), lr, betas=(0.9, 0.95), warmup=WARM_UP
    ),
}

GRID: dict[str, list[float]] = {
    name: [first * 2**k for k in range(5)]
    for name, first in {
        "sgd": 0.25, "adamw": 2e-3, "adafactor": 2.5e-3, "lion": 1e-3, "muon": 8e-3, "soap": 2e-3,
        "schedule-free": 4e-3,
    }.items()
}  # fmt: skip
"""Fixed before the first run: five rates each, a factor of two apart."""

RATES: dict[str, float] = {
    "sgd": 1.0, "adamw": 8e-3, "adafactor": 1e-2, "lion": 4e-3, "muon": 32e-3, "soap": 16e-3,
    "schedule-free": 16e-3,
}  # fmt: skip
"""The best of each grid on the tuning seed."""


def measure(run: Run, *, steps: int = STEPS, rows: int = 320) -> Run:
    """Train with one optimizer at one rate from one seed, in nats a token.

    The rate warms up and falls linearly to zero; without a schedule it only warms up. A run whose
    loss is lost counts as one that knows nothing, ln V.
    """
    text = short_text()
    model = small_decoder(VOCAB_SIZE, run["seed"], length=LENGTH, d_model=WIDTH, n_layers=LAYERS)
    batch_of = random_rows(text.train, length=LENGTH, batch=BATCH, seed=run["seed"])
    optimizer = BUILD[run["optimizer"]](model, run["lr"])
    lr = warmup_hold_decay(run["lr"], steps, warmup=WARM_UP, share=1 - WARM_UP / steps)
    losses: list[float] = []
    for step in range(steps):
        if not isinstance(optimizer, ScheduleFreeAdamW):
            for group in optimizer.param_groups:
                group["lr"] = lr(step)
        loss = next_token_loss(model, language_modeling(batch_of(step)))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if isinstance(optimizer, ScheduleFreeAdamW):
        optimizer.average()
    held_out = loss_on_text(model, text.held_out, rows=rows, length=LENGTH)
    return {
        "held_out_loss": round(held_out, 4) if math.isfinite(held_out) else math.log(VOCAB_SIZE),
        "losses": [round(x, 3) for x in losses[::10] if math.isfinite(x)],
        "state_bytes": state_bytes(optimizer),  # pyright: ignore[reportArgumentType]
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokens": steps * BATCH * LENGTH,
        "unigram_loss": round(text.unigram_loss, 4),
        "text_sha256": text.sha256,
    }


def differences_to_adamw(runs: Runs) -> dict[str, tuple[list[float], float]]:
    """Return for each other optimizer its losses less AdamW's, by seed, and a p-value.

    The p-values of paired t-tests are corrected by Holm for there being six.
    """
    others = [name for name in RATES if name != "adamw"]
    gaps = {name: _gaps(runs, (name, RATES[name]), ("adamw", RATES["adamw"])) for name in others}
    corrected = holm([t_test(gap) for gap in gaps.values()])
    return {name: (gaps[name], p) for name, p in zip(others, corrected, strict=True)}


def polar_express_difference(runs: Runs) -> Interval:
    """Return by how much Muon's loss differs with Polar Express' coefficients."""
    rate = RATES["muon"]
    return t_interval(_gaps(runs, ("muon, polar express", rate), ("muon", rate)))


def _gaps(runs: Runs, one: tuple[str, float], other: tuple[str, float]) -> list[float]:
    first, second = (
        runs.values("held_out_loss", optimizer=name, lr=lr, seed=SEEDS.__contains__)
        for name, lr in (one, other)
    )
    return [a - b for a, b in zip(first, second, strict=True)]


def _are_below_adamw(runs: Runs) -> bool:
    found = differences_to_adamw(runs)
    return all(
        p < 0.05 and t_interval(gaps).high < 0
        for gaps, p in (found[name] for name in ("muon", "soap", "adafactor"))
    )


def _rates_are_the_best_within_their_grids(runs: Runs) -> bool:
    for name, rates in GRID.items():
        losses = [
            runs.values("held_out_loss", optimizer=name, lr=lr, seed=TUNING_SEED)[0] for lr in rates
        ]
        place = rates.index(RATES[name])
        if losses[place] != min(losses) or place in (0, len(rates) - 1):
            return False
    return True


EXPERIMENT = Experiment(
    conditions=[
        *(
            {"optimizer": name, "lr": lr, "seed": TUNING_SEED}
            for name, rates in GRID.items()
            for lr in rates
        ),
        *({"optimizer": name, "lr": lr} for name, lr in RATES.items()),
        {"optimizer": "muon, polar express", "lr": RATES["muon"]},
    ],
    seeds=SEEDS,
    measure=measure,
    equal=("parameters", "tokens", "unigram_loss", "text_sha256"),
    depends=tuple(
        f"llmlib.training.optimizers.{name}"
        for name in (
            "adafactor", "adam", "base", "lion", "muon", "polar_express", "schedule_free", "sgd",
            "soap",
        )
    ),
    claims={
        "train.optimizers": {
            "every rate is the best of five on the tuning seed, and none lies at an end": (
                _rates_are_the_best_within_their_grids
            ),
            "Muon, SOAP and Adafactor end below AdamW, by Holm over six comparisons": (
                _are_below_adamw
            ),
            "no difference to AdamW is shown for SGD, Lion and schedule-free": lambda runs: all(
                differences_to_adamw(runs)[name][1] > 0.05
                for name in ("sgd", "lion", "schedule-free")
            ),
            "Polar Express is within 0.03 nats of Jordan's coefficients, no difference shown": (
                lambda runs: (
                    polar_express_difference(runs).within(0.03)
                    and not polar_express_difference(runs).shows_difference
                )
            ),
        },
    },
)  # fmt: skip
