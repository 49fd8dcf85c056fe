"""The speed run: its baseline, its tricks, its loop and clock, and the page that logs it."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from llmlib.architecture.transformer import Transformer
from llmlib.data.stream.packing import PackedTokens, pack
from llmlib.experiments.training.speed_run import loop
from llmlib.experiments.training.speed_run.loop import (
    batches_of,
    build,
    loss_on,
    optimizer_of,
    step_seconds,
    train_for,
)
from llmlib.experiments.training.speed_run.pairs import pairs_loss
from llmlib.experiments.training.speed_run.recipe import LENGTH, VOCAB_SIZE, Recipe
from llmlib.training.objectives.next_token import next_token_loss


def small(**changes: Any) -> Recipe:
    return Recipe(**{"d_model": 64, "n_layers": 2, **changes})


@pytest.fixture(scope="module")
def source() -> PackedTokens:
    rng = np.random.default_rng(3)
    return pack([rng.integers(1, 97, size=n) for n in (1999, 3001, 2503)], 0)


def test_the_defaults_are_gpt_2_without_biases() -> None:
    ours = Transformer(Recipe().model_config)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB_SIZE, n_positions=LENGTH, n_embd=192, n_layer=4, n_head=3
        )
    )  # fmt: skip
    count = sum(p.numel() for n, p in theirs.named_parameters() if not n.endswith("bias"))
    assert sum(p.numel() for p in ours.parameters()) == count
    spread = ours.blocks[0].get_parameter("feedforward.out.weight").std().item()
    assert spread == pytest.approx(0.02 / 8**0.5, rel=0.02)
    groups = optimizer_of(build(small(), 0), small()).param_groups
    assert [(g["lr"], g["weight_decay"], g["betas"]) for g in groups] == [
        (6e-4, 0.1, (0.9, 0.95)),
        (6e-4, 0.0, (0.9, 0.95)),
    ]
    schedule = Recipe().schedule_of(500)
    assert [round(schedule.factor(step, 500), 3) for step in (5, 10, 500)] == [0.5, 1.0, 0.1]


def test_muon_takes_the_recipe_s_steps_and_rate() -> None:
    recipe = small(optimizer="muon", lr=0.5, newton_steps=3)
    groups = optimizer_of(build(recipe, 0), recipe).param_groups
    assert [g["steps"] for g in groups if "rows" in g] == [3] * sum("rows" in g for g in groups)
    assert {g["lr"] for g in groups if "rows" not in g} == {0.5}


def test_a_run_is_cut_into_its_stretches(source: PackedTokens) -> None:
    recipe = Recipe(ramp=[[0.3, 2, 32], [0.5, 3, 64]], batch=1)
    assert recipe.stretches(10) == [(3, 2, 32), (2, 3, 64), (5, 1, LENGTH)]
    shapes = [tuple(b["inputs"].shape) for b in batches_of(recipe, source, 10, seed=0)]
    assert shapes == [(2, 32)] * 3 + [(3, 64)] * 2 + [(1, LENGTH)] * 5


def test_training_learns_and_repeats(source: PackedTokens) -> None:
    recipe = small(batch=2, lr=3e-3, ramp=[[1.0, 2, 32]])
    first, found = train_for(recipe, source, steps=7, seed=2)
    second, again = train_for(recipe, source, steps=7, seed=2)
    assert found["train_losses"] == again["train_losses"]
    assert found["tokens"] == 7 * 2 * 32
    assert loss_on(first, source, rows=3) == loss_on(second, source, rows=3)
    assert loss_on(first, source, rows=3) < loss_on(build(recipe, 2), source, rows=3)


def test_the_loss_is_the_mean_over_all_windows(source: PackedTokens) -> None:
    model = build(small(), 0)
    n_windows = (source.n_tokens - 1) // LENGTH
    tokens = torch.from_numpy(source.tokens[: n_windows * LENGTH + 1].astype("int64"))
    with torch.no_grad():
        expected = [
            next_token_loss(model, {"inputs": tokens[None, i : i + LENGTH],
                            "targets": tokens[None, i + 1 : i + LENGTH + 1]}).item()
            for i in range(0, n_windows * LENGTH, LENGTH)
        ]  # fmt: skip
    assert loss_on(model, source) == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_clock_takes_the_least_of_its_rounds(
    source: PackedTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recipes, the second of two halves; each reading of the clock is a second after the last,
    and two after the last of a step in the round that was disturbed."""
    taken: list[Recipe] = []
    monkeypatch.setattr(loop.Stepper, "take", lambda self, _: taken.append(self.recipe))
    readings = itertools.accumulate(itertools.chain([0], itertools.cycle([1.0] * 6 + [2.0] * 6)))
    monkeypatch.setattr(loop.time, "process_time", lambda: next(readings))
    ramped = small(batch=1, ramp=[[0.5, 1, 32]])
    found = step_seconds((small(batch=1), ramped), source, rounds=2)
    assert len(taken) == 3 * 3
    assert found == [1.0, 1.0]


def test_pairs_are_counted() -> None:
    learnt, asked = pack([[1, 2] * 40], 0), pack([[1, 2, 1]], 0)
    shares = np.array([2, 41, 41]) / 84
    chances = [(40 + 20 * shares[2]) / 60, (39 + 20 * shares[1]) / 60, 20 * shares[0] / 60]
    assert pairs_loss(learnt, asked, 3) == pytest.approx(-np.mean(np.log(chances)))
