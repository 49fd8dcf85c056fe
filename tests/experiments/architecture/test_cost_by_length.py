"""Time and memory against the length: exponents are recovered, and bytes are those recorded."""

import pytest

from llmlib.experiments.architecture.cost_by_length import (
    EXPERIMENT,
    FAMILIES,
    LENGTHS,
    exponent,
    measure,
    slope,
)
from llmlib.experiments.experiment import Runs


def test_exponents_are_recovered():
    lengths = [256, 512, 1024, 2048]
    assert slope(lengths, [3e-6 * n**1.7 for n in lengths]) == pytest.approx(1.7)
    times = {"family": "s4", "lengths": [512, 1024, 2048], "training_seconds": [9.0, 1.0, 4.0]}
    runs = Runs([times | {"seed": seed} for seed in (0, 1)])
    assert exponent(runs, "s4", "training_seconds") == pytest.approx((2, 2, 2))  # from 1,024 on


@pytest.mark.parametrize("family", FAMILIES)
def test_bytes_are_those_of_a_fresh_measurement(family):
    recorded = EXPERIMENT.runs().where(family=family)[0]
    measured = measure({"family": family, "seed": 0}, lengths=LENGTHS[:1], seconds=0)
    assert measured["state_bytes"] == recorded["state_bytes"][:1]
    assert measured["training_bytes"] == pytest.approx(recorded["training_bytes"][:1], rel=0.02)
    assert min(measured["training_seconds"] + measured["decoding_seconds"]) > 0
