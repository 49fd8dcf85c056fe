"""What cheaper attention costs: its models, and one short run of each kind."""

from functools import partial

import pytest

from llmlib.experiments.architecture import attention_variants
from llmlib.experiments.architecture.attention_variants import (
    BASELINE,
    CONVERSION,
    EXPERIMENT,
    STEPS,
    config_of,
    conversion_cost,
    measure,
    rate,
)
from llmlib.experiments.experiment import Runs
from llmlib.experiments.short_text import short_text
from llmlib.experiments.short_training import loss_on_text


def test_the_latent_variant_keeps_as_much_as_two_key_heads():
    shapes = [config_of(v).cache_shapes for v in ("grouped-query, 2", "latent, 36 + 12")]
    assert {sum(heads * width for heads, width in shape) for shape in shapes} == {48}


def test_the_rate_warms_up():
    assert rate(0) < rate(10) < rate(19) == rate(500)


def test_a_conversion_is_compared_with_the_unchanged_model_of_its_seed():
    runs = [
        {"variant": CONVERSION, "seed": seed, BASELINE: {"converted": 2.0 + seed},
         "G = 2": {"converted": 2.25 + 1.5 * seed}}
        for seed in (1, 0)
    ]  # fmt: skip
    runs.append({"variant": BASELINE, "seed": 0, "held_out_loss": 9.0})
    cost = conversion_cost(Runs(runs), "G = 2", "converted")
    assert cost.value == 0.5 and cost.low < 0


@pytest.mark.slow
def test_a_short_run_of_each_kind(monkeypatch):
    monkeypatch.setattr(attention_variants, "loss_on_text", partial(loss_on_text, rows=4))
    plain = measure({"variant": "fixed, 12", "seed": 1}, steps=2)
    assert plain["tokens"] == 2048 and plain["cache_numbers"] == 192
    assert plain["pairs"] == 10 * 78 + 36 + 12 * 45 + 80  # own blocks, then one for each earlier
    converted = measure({"variant": CONVERSION, "seed": 1}, steps=2, uptraining=2)
    assert converted["before"] == converted["multi-head"]["converted"]
    losses = {converted[f"G = {g}"]["converted"] for g in (4, 2, 1)}
    assert len(losses) == 3 and converted["G = 1"]["uptrained"] not in losses
    assert converted["multi-head"]["uptrained"] not in losses  # models of their own, not one
    again = measure({"variant": "fixed, 12", "seed": 1}, steps=2)
    assert again["held_out_loss"] == plain["held_out_loss"]


def test_the_record_is_of_this_text():
    run = EXPERIMENT.runs()[0]  # all are equal in these
    assert run["text_sha256"] == short_text().sha256
    assert run["unigram_loss"] == pytest.approx(short_text().unigram_loss, abs=1e-3)
    assert run["steps"] == STEPS == 200 and run["tokens"] == 204_800
