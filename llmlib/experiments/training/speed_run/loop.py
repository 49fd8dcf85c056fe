"""The loop of the speed run, and the clock that says how long a recipe's step takes."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.core.seeding import seed_everything
from llmlib.data.stream.loader import TokenLoader
from llmlib.data.stream.packing import TokenSource
from llmlib.experiments.training.speed_run.recipe import LENGTH, Recipe
from llmlib.training.checkpointing.named_state import AnyOptimizer
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.adamw import adamw
from llmlib.training.optimizers.combined import muon_with_adamw


def build(recipe: Recipe, seed: int) -> Transformer:
    seed_everything(seed)
    return Transformer(recipe.model_config)


def optimizer_of(model: Transformer, recipe: Recipe) -> AnyOptimizer:
    common: dict[str, Any] = {
        "lr": recipe.lr,
        "betas": (0.9, 0.95),
        "weight_decay": recipe.weight_decay,
    }
    if recipe.optimizer == "adamw":
        return adamw(model, **common)
    return muon_with_adamw(
        model, muon_steps=recipe.newton_steps, stacked_rows=model.stacked_rows, **common
    )


def batches_of(recipe: Recipe, source: TokenSource, steps: int, seed: int) -> Iterator[Batch]:
    for number, (n_steps, batch, length) in enumerate(recipe.stretches(steps)):
        loader = TokenLoader(
            source,
            batch_size=batch,
            seq_len=length,
            seed=seed + 1000 * number,
        )
        for _ in range(n_steps):
            yield next(loader)


class Stepper:
    """Takes a recipe's steps one at a time."""

    def __init__(self, recipe: Recipe, steps: int, seed: int) -> None:
        self.recipe, self.steps, self.step = recipe, steps, 0
        self.model = build(recipe, seed)
        self.optimizer = optimizer_of(self.model, recipe)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.schedule = recipe.schedule_of(steps)

    def take(self, batch: Batch) -> float:
        """Do one update and return the loss before it."""
        loss = next_token_loss(self.model, batch)
        loss.backward()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.step += 1
        factor = self.schedule.factor(self.step, self.steps)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def train_for(
    recipe: Recipe, source: TokenSource, *, steps: int, seed: int
) -> tuple[Transformer, dict[str, Any]]:
    """Train from a seed; stop where the loss is no number.

    Returns:
        The model, and the run's losses (mean of ten steps), tokens and seconds.
    """
    stepper = Stepper(recipe, steps, seed)
    wall, processor = time.perf_counter(), time.process_time()
    losses: list[float] = []
    tokens = 0
    for batch in batches_of(recipe, source, steps, seed):
        losses.append(stepper.take(batch))
        tokens += batch["targets"].numel()
        if not math.isfinite(losses[-1]):
            break
    return stepper.model, {
        "train_losses": [round(_mean(losses[i : i + 10]), 3) for i in range(0, len(losses), 10)],
        "tokens": tokens,
        "training_cpu_seconds": round(time.process_time() - processor, 1),
        "training_seconds": round(time.perf_counter() - wall, 1),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@torch.no_grad()
def loss_on(model: Transformer, source: TokenSource, *, rows: int = 0) -> float:
    """Measure the mean loss in nats a token, on all windows or on so many, evenly spaced."""
    model.eval()
    n_windows = (source.n_tokens - 1) // LENGTH
    rows = min(rows or n_windows, n_windows)
    chosen = [i * n_windows // rows for i in range(rows)]
    total = 0.0
    for first in range(0, rows, 16):
        windows = [
            torch.from_numpy(source.read(i * LENGTH, (i + 1) * LENGTH + 1).astype("int64"))
            for i in chosen[first : first + 16]
        ]
        stack = torch.stack(windows)
        batch = {"inputs": stack[:, :-1].contiguous(), "targets": stack[:, 1:].contiguous()}
        total += next_token_loss(model, batch).item() * len(windows)
    model.train()
    return total / rows


def step_seconds(recipes: Sequence[Recipe], source: TokenSource, *, rounds: int) -> list[float]:
    """Clock a step of each recipe, in turns, in processor seconds: the least of the rounds.

    A recipe with a ramp is clocked in each of its stretches, which count by their length.
    """
    runs: list[list[tuple[Stepper, Batch, float]]] = []
    for recipe in recipes:
        runs.append([])
        for n_steps, batch, length in recipe.stretches(1000):
            loader = TokenLoader(source, batch_size=batch, seq_len=length, seed=0)
            runs[-1].append((Stepper(recipe, 1000, 0), next(loader), n_steps / 1000))
    seconds: list[list[list[float]]] = [[] for _ in recipes]
    for _ in range(rounds + 1):  # the first round builds the optimizers' states
        for mine, stretches in zip(seconds, runs, strict=True):
            times = []
            for stepper, batch, share in stretches:
                began = time.process_time()
                stepper.take(batch)
                times.append((time.process_time() - began) * share)
            mine.append(times)
    return [sum(min(column) for column in zip(*mine[1:], strict=True)) for mine in seconds]
