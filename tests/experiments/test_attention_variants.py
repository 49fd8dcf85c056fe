"""What cheaper attention costs: one short run of each kind, and the claims of the record."""

from functools import partial

import pytest

from llmlib.experiments import attention_variants
from llmlib.experiments.attention_variants import (
    BASELINE,
    CONVERSION,
    SEEDS,
    VARIANTS,
    config_of,
    differences,
    perform,
    plan,
    rate,
)
from llmlib.experiments.short_runs import Run, mean_loss


def test_the_plan_holds_every_variant_from_every_seed():
    runs = list(plan())
    assert len(runs) == len(SEEDS) * (len(VARIANTS) + 1)
    assert all(run in runs for run in ({"variant": v, "seed": s} for v in VARIANTS for s in SEEDS))


def test_the_latent_variant_keeps_as_much_as_two_key_heads():
    shapes = [config_of(v).cache_shapes for v in ("grouped-query, 2", "latent, 36 + 12")]
    assert {sum(heads * width for heads, width in shape) for shape in shapes} == {48}


def test_the_rate_warms_up():
    assert rate(0) < rate(10) < rate(19) == rate(500)


def test_differences_are_taken_within_a_seed():
    losses = {(BASELINE, 0): 2.0, (BASELINE, 1): 3.0, ("multi-query", 1): 3.5,
              ("multi-query", 0): 2.25}  # fmt: skip
    runs: list[Run] = [
        {"variant": name, "seed": seed, "held_out_loss": x} for (name, seed), x in losses.items()
    ]
    runs.append({"variant": CONVERSION, "seed": 0, "before": 9.0})
    assert differences(runs, "multi-query") == [0.25, 0.5]


@pytest.mark.slow
def test_a_short_run_of_each_kind(monkeypatch):
    monkeypatch.setattr(attention_variants, "mean_loss", partial(mean_loss, rows=4))
    plain = perform({"variant": "fixed, 12", "seed": 1}, steps=2)
    assert plain["tokens"] == 2048 and plain["cache_numbers"] == 192
    assert plain["pairs"] == 10 * 78 + 36 + 12 * 45 + 80  # own blocks, then one for each earlier
    converted = perform({"variant": CONVERSION, "seed": 1}, steps=2, uptraining=2)
    assert converted["before"] == converted["multi-head"]["converted"]
    losses = {converted[f"G = {g}"]["converted"] for g in (4, 2, 1)}
    assert len(losses) == 3 and converted["G = 1"]["uptrained"] not in losses
    again = perform({"variant": "fixed, 12", "seed": 1}, steps=2)
    assert again["held_out_loss"] == plain["held_out_loss"]
