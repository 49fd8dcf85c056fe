"""The race of the optimizers: one grid each, one model for all, and the same rows."""

import pytest
import torch

from llmlib.core.statistics import t_test
from llmlib.experiments.experiment import Runs
from llmlib.experiments.short_text import VOCAB_SIZE
from llmlib.experiments.short_training import small_decoder
from llmlib.experiments.training.optimizer_race import (
    BUILD,
    EXPERIMENT,
    GRID,
    RATES,
    SEEDS,
    differences_to_adamw,
    measure,
)
from llmlib.training.optimizers.polar_express import polar_express


def test_every_optimizer_has_a_grid_and_its_rate_stands_in_it() -> None:
    assert set(GRID) == set(RATES) == set(BUILD) - {"muon, polar express"}
    for name, rates in GRID.items():
        assert RATES[name] in rates[1:-1]
        assert all(b == 2 * a for a, b in zip(rates, rates[1:], strict=False))
    confirming = [run for run in EXPERIMENT.plan() if run["seed"] in SEEDS]
    assert len(confirming) == 5 * len(BUILD)


@pytest.mark.parametrize("name", BUILD)
def test_every_optimizer_owns_each_parameter_once(name: str) -> None:
    model = small_decoder(VOCAB_SIZE, 0, length=8, d_model=32, n_layers=1)
    optimizer = BUILD[name](model, 0.01)
    owned = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):  # SOAP's first step only looks
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert all(not torch.equal(p, was) for p, was in zip(model.parameters(), before, strict=True))


def test_polar_express_differs_from_muon_in_its_coefficients_alone() -> None:
    model = small_decoder(VOCAB_SIZE, 0, length=8, d_model=32, n_layers=1)
    plain, polar = (
        BUILD[name](model, 0.01).param_groups for name in ("muon", "muon, polar express")
    )
    for one, other in zip(plain, polar, strict=True):
        changed = {key for key in one if key != "params" and one[key] != other[key]}
        assert changed == ({"coefficients"} if "coefficients" in one else set())
        if changed:
            assert other["coefficients"] == polar_express(5)


def test_differences_are_paired_by_seed_and_corrected_for_six() -> None:
    runs = Runs([
        {"optimizer": name, "lr": lr, "seed": seed, "held_out_loss": seed + base * (1 + seed / 100)}
        for base, (name, lr) in enumerate(RATES.items())
        for seed in SEEDS
    ])  # fmt: skip
    found = differences_to_adamw(runs)
    assert len(found) == 6 and "adamw" not in found
    place = list(RATES).index
    for name, (gaps, p) in found.items():
        apart = place(name) - place("adamw")
        assert gaps == pytest.approx([apart * (1 + seed / 100) for seed in SEEDS])
        assert p == pytest.approx(6 * t_test(gaps))


@pytest.mark.slow
def test_a_run_that_breaks_counts_as_one_that_knows_nothing() -> None:
    run = measure({"optimizer": "sgd", "lr": 1e4, "seed": 0}, steps=13, rows=32)
    assert run["held_out_loss"] == pytest.approx(6.238, abs=1e-3)
    short = measure({"optimizer": "schedule-free", "lr": 0.016, "seed": 0}, steps=13, rows=32)
    assert short["held_out_loss"] < 6.238 and short["tokens"] == 13 * 512
