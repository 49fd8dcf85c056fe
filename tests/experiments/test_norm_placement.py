"""The sweep over norm placements: its models, its rule for failure, and what the record says."""

import math
import statistics
from functools import cache

import pytest
import torch

from llmlib.architecture.counts import parameters
from llmlib.experiments.norm_placement import (
    RATES,
    SEEDS,
    VARIANTS,
    build,
    config_of,
    has_failed,
    largest_stable_rate,
    layer_gradients,
    perform,
    plan,
)
from llmlib.experiments.short_runs import Run, read_runs, short_text, t_interval
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
    measured = perform({"variant": "pre", "lr": 1e-3, "seed": 0}, steps=6, n_layers=2)
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


# What the committed record says


@cache
def record() -> dict[tuple[str, float, int], Run]:
    return {(r["variant"], r["lr"], r["seed"]): r for r in read_runs("norm_placement")}


def of(variant: str, seed: int) -> list[Run]:
    return [record()[variant, lr, seed] for lr in RATES]


def test_the_record_is_whole_and_of_one_text() -> None:
    assert set(record()) == {(r["variant"], r["lr"], r["seed"]) for r in plan()}
    assert {r["text_sha256"] for r in record().values()} == {short_text().sha256}
    for (variant, _, _), entry in record().items():
        assert entry["parameters"] == parameters(config_of(variant)).total
        assert entry["unigram_loss"] == pytest.approx(short_text().unigram_loss, abs=1e-3)
        assert entry["threads"] == 1 and entry["machine"]


@pytest.mark.covers("arch.norm-placement")
def test_pre_norm_stands_larger_rates_than_post_norm() -> None:
    log2 = {
        variant: [math.log2(largest_stable_rate(of(variant, seed)) or 2**-11) for seed in SEEDS]
        for variant in ("post", "pre", "sandwich", "deepnorm")
    }
    for variant in ("pre", "sandwich", "deepnorm"):
        gain = [a - b for a, b in zip(log2[variant], log2["post"], strict=True)]
        assert t_interval(gain)[1] > 0, (variant, log2)


@pytest.mark.covers("arch.norm-placement")
def test_an_embedding_norm_makes_no_difference_and_parallel_layers_a_small_one() -> None:
    def interval(variant: str) -> tuple[float, float]:
        losses = [
            [record()[v, 2.0**-8, seed]["held_out_loss"] for v in (variant, "pre")]
            for seed in SEEDS
        ]
        _, low, high = t_interval([a - b for a, b in losses])
        return low, high

    low, high = interval("pre, embedding norm")
    assert low <= 0 <= high
    assert interval("pre, parallel")[1] < 0


@pytest.mark.covers("arch.norm-placement")
def test_the_last_gradients_of_the_placements_are_ordered() -> None:
    for seed in SEEDS:
        last = {v: record()[v, RATES[0], seed]["last_layer_gradient"] for v in VARIANTS}
        assert last["post"] > 1.3 * last["pre"] > 1.3 * 1.3 * last["deepnorm"]


@pytest.mark.covers("arch.bias")
def test_biases_do_not_change_how_often_a_run_fails() -> None:
    """No difference is found: the interval of the paired difference of rates holds zero."""
    differences = []
    for seed in SEEDS:
        failed = [
            sum(map(has_failed, of(variant, seed))) / len(RATES)
            for variant in ("pre, biases", "pre")
        ]
        differences.append(failed[0] - failed[1])
    _, low, high = t_interval(differences)
    assert low <= 0 <= high
