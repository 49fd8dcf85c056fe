import math

import pytest
import torch
from torch.nn import functional as F

from llmlib.architecture.config import ModelConfig
from llmlib.training.speed.intensity import step_operations
from llmlib.training.speed.roofline import Roofline, Work, measure_roofline
from llmlib.training.speed.trials import fastest, operation_trials

A_PRODUCT = ("qkv", "attention_out", "feedforward_up", "feedforward_down", "head")


@pytest.fixture(scope="module")
def roofline() -> Roofline:
    return measure_roofline(seconds=1.0)


def test_the_two_limits_meet_at_the_ridge() -> None:
    machine = Roofline(peak_flops=700.0, bandwidth=7.0)
    assert machine.ridge == 100.0
    assert [machine.attainable(i) for i in (1.0, 100.0, 300.0)] == [7.0, 700.0, 700.0]
    assert machine.side(Work(flops=99, bytes=1)) == "memory"
    assert machine.side(Work(flops=101, bytes=1)) == "compute"
    assert machine.seconds(Work(flops=7, bytes=14)) == 2.0  # the memory's time, not 0.01
    assert machine.seconds(Work(flops=1400, bytes=7)) == 2.0


def test_work_adds_up_and_is_never_negative() -> None:
    assert Work(2, 3) + Work(5, 7) * 2 == Work(12, 17)
    assert Work(flops=3).intensity == math.inf
    with pytest.raises(ValueError, match="negative"):
        Work(flops=-1)
    with pytest.raises(ValueError, match="positive"):
        Roofline(peak_flops=0.0, bandwidth=1.0)
    with pytest.raises(ValueError, match="rounds=0"):
        measure_roofline(rounds=0)


@pytest.mark.covers("train.throughput")
def test_sides_predicted_from_shapes_are_those_that_are_measured(roofline: Roofline) -> None:
    """In processor time, which a neighbour on the machine hardly touches; the margins are wide.

    Every product is predicted on the compute side and reaches a third of the peak; every pass is
    predicted on the memory side and stays below that. None is faster than the peak allows.
    """
    config = ModelConfig(
        vocab_size=1021, d_model=256, n_layers=2, n_heads=4, max_seq_len=256, tie_embeddings=False
    )
    operations = step_operations(config, batch_size=4, seq_len=256)
    trials = operation_trials(config, batch_size=4, seq_len=256)
    sides = {name: roofline.side(one.work) for name, one in operations.items()}
    assert {name for name, side in sides.items() if side == "compute"} == {*A_PRODUCT, "attention"}
    seconds = {name: fastest(trial, repeats=3) for name, trial in trials.items()}
    shares = {
        name: one.work.flops / seconds[name] / roofline.peak_flops
        for name, one in operations.items()
    }
    # A product of another shape than the square one that set the peak may suit the caches better,
    # and both are medians or minima of a few: a quarter more is the noise, not a faster machine.
    assert max(shares.values()) < 1.25, shares
    assert min(shares[name] for name in A_PRODUCT) > 1 / 3, shares
    passes = [name for name, side in sides.items() if side == "memory"]
    assert max(shares[name] for name in passes) < 1 / 3, shares


@pytest.mark.covers("train.throughput")
def test_a_product_crosses_the_ridge_as_its_rows_grow(roofline: Roofline) -> None:
    """One row uses each weight once and waits for it; many rows wait for the arithmetic."""
    n = 2048
    weight = torch.randn(n, n)

    def measured(rows: int) -> tuple[Work, float]:
        x = torch.randn(rows, n)
        return Work(2 * rows * n * n, 4 * (n * n + 2 * rows * n)), fastest(
            lambda: F.linear(x, weight)
        )

    (one, one_time), (many, many_time) = measured(1), measured(331)
    assert roofline.side(one) == "memory" and roofline.side(many) == "compute"
    rates = one.flops / one_time, many.flops / many_time
    assert rates[1] > 3 * rates[0], rates
    assert many_time < 331 / 3 * one_time  # by FLOPs alone it would be 331 times
