"""The sweep over norm placements: its models, and its rule for failure."""

import math
import statistics

import pytest
import torch

from llmlib.architecture.counts import parameters
from llmlib.experiments.architecture.norm_placement import (
    EXPERIMENT,
    SEEDS,
    VARIANTS,
    build,
    config_of,
    has_failed,
    largest_stable_rate,
    layer_gradients,
    measure,
)
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_text import short_text
from llmlib.training import language_modeling, next_token_loss


def run(lr: float, held_out: float | None) -> Run:
    return {"lr": lr, "held_out_loss": held_out, "unigram_loss": 5.0}


def test_a_run_fails_at_the_unigram_loss_or_without_a_number() -> None:
    losses = [4.99, 5.0, 6.0, None]
    assert [has_failed(run(1.0, loss)) for loss in losses] == [False, True, True, True]


def test_the_largest_stable_rate_is_the_last_before_the_first_failure() -> None:
    lucky_later = [run(8.0, 4.0), run(1.0, 4.0), run(4.0, 6.0), run(2.0, 4.5)]
    assert largest_stable_rate(lucky_later) == 2
    assert largest_stable_rate(lucky_later[:1]) == 8
    assert largest_stable_rate([run(1.0, None), run(2.0, 4.0)]) == 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_differs_by_its_fields_alone(variant: str) -> None:
    changed, base = config_of(variant).to_dict(), config_of("pre").to_dict()
    differing = {name for name in base if base[name] != changed[name]}
    allowed = set(VARIANTS[variant])
    if "bias" in allowed:
        allowed |= {"norm_bias", "qkv_bias"}
    assert differing == allowed - {"norm_placement"} | ({"norm_placement"} & differing)


def test_all_matrices_start_alike_but_deepnorms() -> None:
    for variant in VARIANTS:
        for name, parameter in build(variant, 1, n_layers=2).named_parameters():
            if parameter.dim() == 2 and name != "embedding.weight" and variant != "deepnorm":
                std = parameter.std().item() * math.sqrt(48)
                assert std == pytest.approx(0.55, rel=0.06), (variant, name)
    deep = build("deepnorm", 1, n_layers=2).blocks[0].get_parameter("feedforward.up.weight")
    assert deep.std().item() == pytest.approx(16**-0.25 * math.sqrt(2 / (48 + 192)), rel=0.06)


def test_a_short_run_has_what_the_record_needs() -> None:
    measured = measure({"variant": "pre", "lr": 1e-3, "seed": 0}, steps=6, n_layers=2)
    assert len(measured["losses"]) == 2
    assert measured["parameters"] == parameters(config_of("pre", n_layers=2)).total
    assert measured["text_sha256"] == short_text().sha256
    assert measured["held_out_loss"] < measured["losses"][0]
    assert measured["last_layer_gradient"] > 0


@pytest.mark.slow
@pytest.mark.covers("arch.norm-placement")
def test_post_norms_last_gradient_does_not_depend_on_the_depth_and_pre_norms_does() -> None:
    """Xiong et al. (2020), theorem 1: O(1) and O(1 / sqrt(L))."""
    depths = (12, 48)
    fall: dict[str, float] = {}
    for placement in ("post", "pre", "deepnorm"):
        means = []
        for n_layers in depths:
            last = []
            for seed in SEEDS:
                model = build(placement, seed, n_layers)
                tokens = torch.randint(512, (2, 33))
                next_token_loss(model, language_modeling(tokens)).backward()
                last.append(layer_gradients(model)[-1])
            means.append(statistics.mean(last))
        fall[placement] = math.log(means[1] / means[0]) / math.log(depths[1] / depths[0])
    assert abs(fall["post"]) < 0.15
    assert -0.6 < fall["pre"] < -0.35
    assert -0.65 < fall["deepnorm"] < -0.35


def test_the_record_is_of_these_models_and_this_text() -> None:
    text = short_text()
    for run in EXPERIMENT.runs():
        assert run["parameters"] == parameters(config_of(run["variant"])).total
        assert run["text_sha256"] == text.sha256
        assert run["unigram_loss"] == pytest.approx(text.unigram_loss, abs=1e-3)
