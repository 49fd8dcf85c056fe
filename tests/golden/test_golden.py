"""A move changes nothing: losses, ids, logits and kept text are what they were.

Numbers are compared to four digits, because processors round differently; ids and texts whole.
Where a change mends a wrong result, `python tests/golden/readings.py --record` stores the new one,
and the commit says why.
"""

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    path = Path(__file__).with_name("readings.py")
    spec = importlib.util.spec_from_file_location("readings", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def agree_to_four_digits(got: float, want: float) -> bool:
    return math.isclose(got, want, rel_tol=2e-4, abs_tol=1e-6)


@pytest.mark.slow
def test_everything_is_as_it_was(golden: ModuleType) -> None:
    want = json.loads(golden.STORED.read_text(encoding="utf-8"))
    found = json.loads(json.dumps(golden.readings()))
    assert golden.differences(found, want, agree_to_four_digits) == []


def test_a_difference_is_named_by_its_place(golden: ModuleType) -> None:
    want = {"losses": {"a": [6.0, 5.5]}, "ids": [1, 2]}
    assert golden.differences(want, want, agree_to_four_digits) == []
    for wrong, place in (
        ({"losses": {"a": [6.0, 5.504]}, "ids": [1, 2]}, "/losses/a[1]"),
        ({"losses": {"a": [6.0, 5.5]}, "ids": [1, 3]}, "/ids[1]"),
        ({"losses": {"a": [6.0]}, "ids": [1, 2]}, "/losses/a"),
        ({"losses": {"a": [6.0, math.nan]}, "ids": [1, 2]}, "/losses/a[1]"),
    ):
        (found,) = golden.differences(wrong, want, agree_to_four_digits)
        assert found.startswith(f"{place}: ")
