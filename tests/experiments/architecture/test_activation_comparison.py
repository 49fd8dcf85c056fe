"""The comparison of activations: equal sizes, and units counted right."""

import math

import pytest
import torch

from llmlib.architecture import Transformer
from llmlib.architecture.counts import forward_flops, parameters
from llmlib.experiments.architecture.activation_comparison import (
    EXPERIMENT,
    KINDS,
    STEPS,
    config_of,
    measure,
    unit_activity,
)
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
    measured = measure({"activation": "geglu", "init_std": 0.056, "seed": 3}, steps=4, rows=7)
    assert measured["parameters"] == parameters(config_of("geglu")).total
    assert measured["tokens"] == 4 * 16 * 64
    assert measured["units"] == 2 * 256
    assert measured["held_out_loss"] < math.log(512)


def test_the_record_is_of_these_models_and_this_text() -> None:
    run = EXPERIMENT.runs()[0]  # all are equal in these
    assert run["text_sha256"] == short_text().sha256
    assert run["unigram_loss"] == pytest.approx(short_text().unigram_loss, abs=1e-3)
    assert run["parameters"] == parameters(config_of("relu")).total
    assert run["tokens"] == STEPS * 16 * 64
