"""The comparison of activations: equal sizes, units counted right, and what the record says."""

import math
from functools import cache

import pytest
import torch

from llmlib.architecture import Transformer
from llmlib.architecture.counts import forward_flops, parameters
from llmlib.core.statistics import t_interval
from llmlib.experiments.architecture.activation_comparison import (
    INIT_STD,
    KINDS,
    SEEDS,
    SMALL_INIT_STD,
    STEPS,
    config_of,
    perform,
    plan,
    unit_activity,
)
from llmlib.experiments.experiment import Run
from llmlib.experiments.records import read_runs
from llmlib.experiments.short_text import short_text


@pytest.mark.covers("arch.activations")
def test_all_models_have_equal_parameters_and_work() -> None:
    assert len({parameters(config_of(kind)).total for kind in KINDS}) == 1
    assert len({forward_flops(config_of(kind), 2, 17) for kind in KINDS}) == 1


def test_dead_and_busy_units_are_told_apart() -> None:
    model = Transformer(config_of("relu"))
    tokens = torch.randint(512, (3, 17))
    up = model.blocks[0].get_parameter("feedforward.up.weight")
    with torch.no_grad():
        up[:5] = 0.0  # never positive
    first, second = unit_activity(model, tokens)
    assert first.shape == second.shape == (384,)
    assert (first[:5] == 0).all() and (first[5:] > 0).all()
    assert 0.3 < second.mean() < 0.7
    assert not model.blocks[0].get_submodule("feedforward.up")._forward_hooks


def test_gated_units_are_never_exactly_zero() -> None:
    model = Transformer(config_of("swiglu"))
    for activity in unit_activity(model, torch.randint(512, (3, 17))):
        assert activity.shape == (256,)
        assert (activity == 1).all()


def test_a_short_run_has_what_the_record_needs() -> None:
    measured = perform({"activation": "geglu", "init_std": 0.056, "seed": 3}, steps=4, rows=7)
    assert measured["parameters"] == parameters(config_of("geglu")).total
    assert measured["tokens"] == 4 * 16 * 64
    assert measured["units"] == 2 * 256
    assert measured["held_out_loss"] < math.log(512)


@cache
def record() -> dict[tuple[str, float, int], Run]:
    runs = read_runs("activation_comparison")
    return {(r["activation"], r["init_std"], r["seed"]): r for r in runs}


@pytest.mark.covers("arch.activations")
def test_the_record_is_whole_with_equal_parameters_and_tokens() -> None:
    assert set(record()) == {(r["activation"], r["init_std"], r["seed"]) for r in plan()}
    assert len(SEEDS) >= 3
    for entry in record().values():
        assert entry["text_sha256"] == short_text().sha256
        assert entry["parameters"] == parameters(config_of("relu")).total
        assert entry["tokens"] == STEPS * 16 * 64
        assert entry["threads"] == 1 and entry["machine"]
        assert entry["held_out_loss"] < entry["unigram_loss"] - 0.5 < math.log(512)


def interval(kind: str, other: str) -> tuple[float, float]:
    """Return the 95% interval of the difference of two activations' losses, paired by seed."""
    differences = [
        record()[kind, INIT_STD, seed]["held_out_loss"]
        - record()[other, INIT_STD, seed]["held_out_loss"]
        for seed in SEEDS
    ]
    _, low, high = t_interval(differences)
    return low, high


@pytest.mark.covers("arch.activations")
@pytest.mark.parametrize("kind", ["gelu", "swiglu", "geglu"])
def test_no_difference_to_relu_is_found_at_this_size(kind: str) -> None:
    """The negative result, as it is recorded: the interval over the seeds holds zero."""
    low, high = interval(kind, "relu")
    assert low <= 0 <= high
    assert high - low < 0.2, "an interval this wide would find nothing at all"


@pytest.mark.covers("arch.activations")
def test_a_gate_helps_swish_at_equal_parameters() -> None:
    assert interval("swiglu", "swish")[1] < 0


def test_from_the_small_start_relu_is_ahead() -> None:
    small = {kind: record()[kind, SMALL_INIT_STD, SEEDS[0]]["held_out_loss"] for kind in KINDS}
    assert min(small[kind] for kind in KINDS if kind != "relu") > small["relu"] + 0.1
