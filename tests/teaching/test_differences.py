import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmlib.teaching.differences import difference, kind


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


RIGHT = normal(5, 5)


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (None, RIGHT, "a tensor is expected, you returned None: does it end with `return`?"),
        ([1.0], RIGHT, "a tensor is expected, yours is a list"),
        (normal(5, 3), normal(3, 5), r"should be \(3, 5\), yours is \(5, 3\): is .* transposed"),
        (normal(5, 1), normal(3, 5), r"should be \(3, 5\), yours is \(5, 1\)$"),
        (RIGHT.double(), RIGHT, "dtype should be torch.float32, yours is torch.float64"),
        (RIGHT / 2, RIGHT, "every value is 0.5 times what it should be"),
        (RIGHT + 3, RIGHT, "every value is too large by 3"),
        (RIGHT - 0.25, RIGHT, "every value is too small by 0.25"),
        (-RIGHT, RIGHT, "every value has the wrong sign"),
        (RIGHT.T, RIGHT, "transpose of the right answer"),
        (torch.tensor([1.0, float("nan")]), torch.ones(2), r"1 of 2 values are NaN.* \[1\]"),
        (torch.tensor([1, 7, 9]), torch.tensor([1, 2, 3]), r"2 of 3 .* at \[1\]: 2 is right"),
        (torch.tensor(2.0), torch.tensor(1.0), "the value differs, the first: 1 is right"),
        (torch.tensor(2.0), 1.0, "add `.item\\(\\)`"),
        (1.5, 2, "whole number"),
        (True, 1, "an int is expected, yours is a bool"),
        (1.5, 1.25, "1.25 is right, yours is 1.5"),
        ("b", "a", "'a' is right, yours is 'b'"),
        ([1, 2], (1, 2), "a tuple is expected, yours is a list"),
        ([1, 3], [1, 2], "at index 1, 2 is right"),
        ([1], [1, 2], "length should be 2, yours is 1"),
        ({"a": 1}, {"a": 1, "b": 2}, "key 'b' is missing"),
        ({"a": 1, "c": 1}, {"a": 1}, "key 'c' should not be there"),
        ({"a": [0]}, {"a": [1]}, "at key 'a', at index 0, 1 is right"),
    ],
)
def test_each_way_of_being_wrong_is_named(got: object, want: object, message: str) -> None:
    found = difference(got, want)
    assert found is not None
    assert __import__("re").search(message, found), found


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_agrees_with_itself(value: object) -> None:
    assert difference(value, value) is None


@given(VALUES, VALUES)
def test_any_two_values_can_be_compared(got: object, want: object) -> None:
    found = difference(got, want)
    assert found is None or found


def test_tolerances_are_kept() -> None:
    assert difference(RIGHT + 1e-7, RIGHT) is None
    assert difference(RIGHT + 1e-3, RIGHT, atol=1e-2) is None
    assert difference(RIGHT + 1e-3, RIGHT) is not None


def test_minus_infinity_of_a_mask_is_compared() -> None:
    want = torch.tensor([[0.5, -torch.inf], [0.25, 1.0]])
    assert difference(want.clone(), want) is None
    found = difference(torch.tensor([[0.5, -1e9], [0.25, 1.0]]), want)
    assert found == "1 of 4 values differ, the first at [0, 1]: -inf is right, yours is -1e+09"


def test_kinds_have_articles() -> None:
    assert [kind(1), kind("x"), kind(object())] == ["an int", "a str", "an object of type object"]
