"""Polar Express' polynomials are those of its paper, and bring singular values to 1."""

import math

import numpy as np
import pytest
import torch

from llmlib.training.optimizers.muon import Muon, orthogonalize
from llmlib.training.optimizers.polar_express import best_quintic, polar_express

# Amsel et al. (2025), section 4.4: before the safety factor 1.01.
PUBLISHED = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
]


def test_the_coefficients_are_the_published_ones() -> None:
    safe = [(a / 1.01, b / 1.01**3, c / 1.01**5) for a, b, c in PUBLISHED]
    np.testing.assert_allclose(polar_express(8)[:7], safe, rtol=1e-8)
    np.testing.assert_allclose(polar_express(8)[7], (15 / 8, -10 / 8, 3 / 8), rtol=1e-6)
    np.testing.assert_allclose(polar_express(5)[4], PUBLISHED[4], rtol=1e-8)  # the last is as it is


@pytest.mark.parametrize(("low", "high"), [(0.1, 1.0), (0.5, 1.3), (0.999, 1.0), (1e-3, 7.0)])
def test_a_quintic_swings_four_times_and_no_other_is_closer(low: float, high: float) -> None:
    (a, b, c), error = best_quintic(low, high)
    x = np.linspace(low, high, 20_011)
    off = a * x + b * x**3 + c * x**5 - 1
    assert np.abs(off).max() == pytest.approx(error, rel=1e-5)
    swings = np.sign(off[np.abs(off) > error * (1 - 1e-4)])
    assert np.count_nonzero(np.diff(swings)) == 3
    generator = np.random.default_rng(0)
    for _ in range(200):
        da, db, dc = generator.normal(0, 0.01, 3)
        other = (a + da) * x + (b + db) * x**3 + (c + dc) * x**5 - 1
        assert np.abs(other).max() >= error * (1 - 1e-9)


def test_a_point_is_mapped_to_one() -> None:
    (a, b, c), error = best_quintic(2.0, 2.0)
    assert error == 0 and 2 * a + 8 * b + 32 * c == pytest.approx(1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (0.5, math.inf)])
def test_no_interval_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="empty, endless"):
        best_quintic(low, high)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"low": 0.0}, {"low": 1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        polar_express(**settings)  # pyright: ignore[reportArgumentType]


def test_singular_values_come_closer_to_one_than_with_one_set_of_coefficients() -> None:
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(23, 23, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(23, 23, dtype=torch.float64))
    matrix = left @ torch.diag(torch.logspace(0, -2, 23, dtype=torch.float64)) @ right.mT

    def farthest(**settings: object) -> float:
        made = orthogonalize(matrix, **settings)  # pyright: ignore[reportArgumentType]
        return float((torch.linalg.svdvals(made) - 1).abs().max())

    assert farthest(coefficients=polar_express(7)) < 1e-2 < 0.2 < farthest(steps=7)


def test_muon_takes_a_schedule_of_coefficients() -> None:
    torch.manual_seed(0)
    weight = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    weight.grad = torch.randn(5, 3, dtype=torch.float64)
    Muon([weight], 1.0, scale="spectral", coefficients=polar_express(9)).step()
    u, _, v = torch.linalg.svd(weight.grad, full_matrices=False)
    torch.testing.assert_close(weight.detach(), -((5 / 3) ** 0.5) * u @ v, rtol=0, atol=1e-4)
