"""The calibration says how many times slower than the reference the machine is."""

import sys

import calibration
import pytest


def test_it_is_relative_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "command", lambda: [sys.executable, "-c", "print(1.5)"])
    monkeypatch.setattr(calibration, "REFERENCE_S", 0.5)
    assert calibration.calibrate() == 3.0


def test_work_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        calibration, "command", lambda: [sys.executable, "-c", "raise SystemExit(1)"]
    )
    with pytest.raises(RuntimeError, match="calibration failed"):
        calibration.calibrate()


@pytest.mark.slow
def test_this_machine_is_of_the_reference_s_kind() -> None:
    # Beyond that, the reference or the measurement is wrong.
    assert 0.2 < calibration.calibrate() < 8
