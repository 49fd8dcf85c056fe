"""Clipping by norm equals torch's; clipping by z-score equals its equations, number by number."""

import json
import math

import pytest
import torch
from torch import Tensor, nn

from llmlib.training.stability.clipping import NormClipping, ZScoreClipping

SIZES = (3, 7, 11)


def with_gradient_of(norm: float) -> list[Tensor]:
    """Parameters whose gradients have this norm together, and one that has none."""
    generator = torch.Generator().manual_seed(17)
    gradients = [torch.randn(5, size, generator=generator).double() for size in SIZES]
    size = math.sqrt(sum(g.square().sum().item() for g in gradients))
    parameters = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient * (norm / size)
    return [*parameters, nn.Parameter(torch.ones(2))]


def gradients_of(parameters: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def norm_of(parameters: list[Tensor]) -> float:
    return math.sqrt(sum(g.square().sum().item() for g in gradients_of(parameters)))


@pytest.mark.covers("train.stability")
@pytest.mark.parametrize("norm", [0.25, 1.0, 4.0])
def test_clipping_by_norm_equals_torch(norm: float) -> None:
    ours, theirs = with_gradient_of(norm), with_gradient_of(norm)
    assert torch.equal(NormClipping(1.0)(ours), nn.utils.clip_grad_norm_(theirs, 1.0))
    for a, b in zip(gradients_of(ours), gradients_of(theirs), strict=True):
        assert torch.equal(a, b)
    assert norm_of(ours) == pytest.approx(min(norm, 1.0), rel=1e-5)


def test_a_limit_of_zero_clips_nothing() -> None:
    parameters, untouched = with_gradient_of(700.0), with_gradient_of(700.0)
    assert NormClipping(0)(parameters).item() == pytest.approx(700.0)
    for a, b in zip(gradients_of(parameters), gradients_of(untouched), strict=True):
        assert torch.equal(a, b)


def equations(norms: list[float], zeta: float, alpha: float, first: int) -> list[float]:
    """Algorithm 1 of Kumar et al. in plain numbers: the norms that are left."""
    mean = sum(norms[:first]) / first
    variance = sum((n - mean) ** 2 for n in norms[:first]) / first
    left = norms[:first]
    for n in norms[first:]:
        z = (n - mean) / math.sqrt(variance)
        n_star = mean + zeta**2 / z * math.sqrt(variance) if z > zeta else n
        mean = alpha * mean + (1 - alpha) * n_star
        variance = alpha * variance + (1 - alpha) * (n_star - mean) ** 2
        left.append(n_star)
    return left


@pytest.mark.covers("train.stability")
def test_clipping_by_z_score_equals_its_equations() -> None:
    generator = torch.Generator().manual_seed(5)
    norms = (1 + 0.2 * torch.randn(60, generator=generator)).abs().tolist()
    norms[31], norms[32], norms[47] = 9.0, 1.9, 400.0
    expected = equations(norms, 2.5, 0.97, 25)
    clipping, left = ZScoreClipping(), []
    for norm in norms:
        parameters = with_gradient_of(norm)
        assert clipping(parameters).item() == pytest.approx(norm, rel=1e-6)
        left.append(norm_of(parameters))
    assert left == pytest.approx(expected, rel=1e-4)
    clipped = [i for i, (a, b) in enumerate(zip(left, norms, strict=True)) if a < 0.99 * b]
    assert {31, 32, 47} <= set(clipped), "the planted ones at least"
    assert min(clipped) >= 25, "the first steps are let by"


@pytest.mark.covers("train.stability")
def test_a_step_worked_by_hand() -> None:
    # Norms 1, 3, 1, 3: mean 2, deviation 1. A norm of 7 scores 5, twice the threshold, so it is
    # cut to 2 + 6.25 / 5 = 3.25, which is all that mean and variance see of it.
    clipping = ZScoreClipping(decay=0.5, warm_up=4)
    for norm in (1.0, 3.0, 1.0, 3.0):
        clipping(with_gradient_of(norm))
    parameters = with_gradient_of(7.0)
    clipping(parameters)
    assert norm_of(parameters) == pytest.approx(3.25, rel=1e-5)
    state = clipping.state_dict()
    assert state["mean"] == pytest.approx((2 + 3.25) / 2, rel=1e-5)
    assert state["variance"] == pytest.approx((1 + (3.25 - 2.625) ** 2) / 2, rel=1e-5)


def test_the_more_unusual_the_more_it_is_clipped() -> None:
    clipping = ZScoreClipping()
    clipping.load_state_dict({"first": [], "mean": 1.0, "variance": 0.01})
    limits = [clipping.limit(torch.tensor(n)).item() for n in (0.0, 1.2, 1.25, 1.3, 2.0, 1e6)]
    assert limits[:2] == pytest.approx([0.0, 1.2])
    assert limits[2] > limits[3] > limits[4] > limits[5] > 1 - 1e-6
    assert limits[5] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("stopped", [3, 11])
def test_a_memory_through_json_goes_on_to_the_same_bit(stopped: int) -> None:
    norms = [1.0, 1.2, 0.9, 1.1, 5.0, 1.0, 1.3, 0.8, 1.0, 1.1, 1.2, 30.0, 1.0, 1.4]
    whole, first, second = (ZScoreClipping(warm_up=7) for _ in range(3))
    for norm in norms:
        whole(with_gradient_of(norm))
    for norm in norms[:stopped]:
        first(with_gradient_of(norm))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for norm in norms[stopped:]:
        second(with_gradient_of(norm))
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize("at", [2, 9])
def test_a_norm_that_is_no_number_does_not_stay(at: int) -> None:
    clipping = ZScoreClipping(warm_up=5)
    for step in range(13):
        norm = math.nan if step == at else 1.0 + 0.1 * (step % 3)
        clipping(with_gradient_of(norm))
    state = clipping.state_dict()
    assert state["mean"] == pytest.approx(1.1, abs=0.05)
    assert state["variance"] < 0.02


@pytest.mark.parametrize(
    "settings", [{"threshold": 0.0}, {"decay": 1.0}, {"decay": -0.1}, {"warm_up": 1}]
)
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        ZScoreClipping(**settings)


@pytest.mark.parametrize("limit", [-1.0, math.nan])
def test_a_limit_below_zero_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="never clip"):
        NormClipping(limit)
