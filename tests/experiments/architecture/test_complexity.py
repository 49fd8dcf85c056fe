"""Time and memory against the length: the committed runs agree with the survey's table."""

import pytest
import torch

from llmlib.experiments.architecture import complexity
from llmlib.experiments.architecture.complexity import (
    EXPECTED,
    LENGTHS,
    SEEDS,
    exponent,
    slope,
    slopes,
)
from llmlib.experiments.records import read_runs


@pytest.fixture(scope="module")
def runs() -> list[complexity.Run]:
    return read_runs("complexity")


def test_every_family_ran_with_every_seed(runs):
    assert {(run["family"], run["seed"]) for run in runs} == {
        (run["family"], run["seed"]) for run in complexity.plan()
    }
    assert len(runs) == len(EXPECTED) * len(SEEDS) and len(SEEDS) >= 3
    assert all(run["lengths"] == list(LENGTHS) and run["threads"] == 1 for run in runs)


@pytest.mark.covers("arch.complexity")
@pytest.mark.parametrize("family", EXPECTED)
def test_measured_exponents_match_the_table(runs, family):
    growth = EXPECTED[family]
    for quantity, band in (
        ("training_seconds", growth.training_band),
        ("decoding_seconds", growth.decoding_band),
    ):
        mean, low, high = exponent(runs, family, quantity)
        assert low <= mean <= high
        assert band[0] < mean < band[1], (quantity, mean, low, high)


@pytest.mark.covers("arch.complexity")
def test_only_attention_trains_in_the_square_of_the_length(runs):
    # Not the bands but the order, interval against interval.
    _, attention, _ = exponent(runs, "attention", "training_seconds")
    for family in EXPECTED:
        if family != "attention":
            assert exponent(runs, family, "training_seconds")[2] < attention, family


@pytest.mark.covers("arch.complexity")
def test_only_attention_and_hyena_decode_slower_in_longer_texts(runs):
    growing = ("attention", "hyena")
    lowest = min(exponent(runs, family, "decoding_seconds")[1] for family in growing)
    for family in EXPECTED:
        if family not in growing:
            assert exponent(runs, family, "decoding_seconds")[2] < lowest, family


@pytest.mark.covers("arch.complexity")
@pytest.mark.parametrize("family", EXPECTED)
def test_memory_of_training_is_at_most_linear_and_a_state_is_constant(runs, family):
    for value in slopes(runs, family, "training_bytes"):  # Mamba computes its states again
        assert (0.6 if family == "mamba" else 0.9) < value < 1.05
    expected = 1 if EXPECTED[family].decoding == "T" else 0
    assert slopes(runs, family, "state_bytes") == pytest.approx([expected] * len(SEEDS), abs=0.01)


def test_exponents_are_recovered():
    lengths = [256, 512, 1024, 2048]
    assert slope(lengths, [3e-6 * n**1.7 for n in lengths]) == pytest.approx(1.7)
    run = {"family": "s4", "lengths": [512, 1024, 2048], "training_seconds": [9.0, 1.0, 4.0]}
    assert slopes([run], "s4", "training_seconds") == pytest.approx([2.0])  # from 1,024 on


@pytest.mark.parametrize("family", EXPECTED)
def test_bytes_are_those_of_a_fresh_measurement(runs, family):
    torch.manual_seed(0)
    recorded = next(run for run in runs if run["family"] == family)
    measured = complexity.perform({"family": family, "seed": 0}, lengths=LENGTHS[:2], seconds=0)
    assert measured["state_bytes"] == recorded["state_bytes"][:2]
    assert measured["training_bytes"] == pytest.approx(recorded["training_bytes"][:2], rel=0.02)
    assert min(measured["training_seconds"] + measured["decoding_seconds"]) > 0
