"""Budgets: published runs and bad input."""

import pytest

from llmlib.scaling import PEAK_FLOPS, inference_flops, mfu, run_cost, training_flops


def test_published_budgets() -> None:
    # Brown et al. (2020), table D.1: GPT-3 took 3.14e23 FLOPs.
    assert training_flops(174.6e9, 300e9) == pytest.approx(3.14e23, rel=0.005)
    # Hoffmann et al. (2022): Chinchilla's 70 B on 1.4 T tokens has Gopher's budget within 3%.
    assert training_flops(70e9, 1.4e12) == pytest.approx(5.76e23, rel=0.03)
    assert inference_flops(70e9, 1) * 3 == training_flops(70e9, 1)


def test_a_run_at_its_own_mfu_takes_its_own_time() -> None:
    # Touvron et al. (2023), table 15: LLaMA 65B, 1,022,362 hours of A100, 1.4 T tokens.
    flops = training_flops(65.2e9, 1.4e12)
    peak = PEAK_FLOPS["A100 bf16"]
    utilization = mfu(flops, 1_022_362 * 3600, peak)
    assert 0.4 < utilization < 0.6
    cost = run_cost(
        flops, peak=peak, utilization=utilization, n_devices=2048, price_per_device_hour=1.5
    )
    assert cost.device_hours == pytest.approx(1_022_362)
    assert cost.seconds / 86_400 == pytest.approx(21, abs=1)  # the paper: about 21 days
    assert cost.price == pytest.approx(1_533_543)
    assert cost.flops == flops


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"utilization": 0.0}, "utilization"),
        ({"utilization": 1.5}, "utilization"),
        ({"peak": -1.0}, "peak must be a positive number"),
        ({"n_devices": 0}, "n_devices"),
        ({"price_per_device_hour": -1.0}, "price_per_device_hour"),
    ],
)
def test_bad_input_is_named(options: dict[str, float], message: str) -> None:
    arguments = {"peak": 1e12, "utilization": 0.5, **options}
    with pytest.raises(ValueError, match=message):
        run_cost(1e18, **arguments)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="seconds must be a positive number"):
        mfu(1.0, 0.0, 1.0)
