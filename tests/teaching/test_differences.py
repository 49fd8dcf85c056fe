import re
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llmlib.teaching.differences import difference, kind, value_difference


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


RIGHT = normal(5, 5)
NAN = float("nan")


def assert_said(got: object, want: object, message: str, *, exact_kind: bool = False) -> None:
    found = difference(got, want, exact_kind=exact_kind)
    assert found is not None
    assert re.search(message, found), found


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (None, RIGHT, "a tensor is expected, you returned None: does it end with `return`?"),
        (normal(5, 3), normal(3, 5), r"should be \(3, 5\), yours is \(5, 3\): is .* transposed"),
        (normal(5, 1), normal(3, 5), r"should be \(3, 5\), yours is \(5, 1\)$"),
        (RIGHT / 2, RIGHT, "every value is 0.5 times what it should be"),
        (RIGHT + 3, RIGHT, "every value is too large by 3"),
        (RIGHT - 0.25, RIGHT, "every value is too small by 0.25"),
        (-RIGHT, RIGHT, "every value has the wrong sign"),
        (RIGHT.T, RIGHT, "transpose of the right answer"),
        (torch.tensor([1.0, NAN]), torch.ones(2), r"1 of 2 values are NaN.* \[1\]"),
        (torch.tensor([1, 7, 9]), torch.tensor([1, 2, 3]), r"2 of 3 .* at \[1\]: 2 is right"),
        (torch.tensor([40001]), torch.tensor([40000]), "40000 is right, yours is 40001"),
        (torch.tensor(2.0), torch.tensor(1.0), "the value differs, the first: 1 is right"),
        (True, 1, "an int is expected, yours is a bool"),
        (1.5, 1.25, "1.25 is right, yours is 1.5"),
        (40001, 40000, "40000 is right, yours is 40001"),
        ("b", "a", "'a' is right, yours is 'b'"),
        ("1", 1, "an int is expected, yours is a str"),
        (1, "1", "a str is expected, yours is an int"),
        (None, "a", "a str is expected, you returned None: does it end with `return`?"),
        ([1, 3], [1, 2], "at index 1, 2 is right"),
        ([1, None], [1, 2], "at index 1, an int is expected, yours is None$"),
        ([1], [1, 2], "length should be 2, yours is 1"),
        ("ab", ["a", "b"], "a list is expected, yours is a str"),
        ({"a": 1}, {"a": 1, "b": 2}, "key 'b' is missing"),
        ({"a": 1, "c": 1}, {"a": 1}, "key 'c' should not be there"),
        ({"a": [0]}, {"a": [1]}, "at key 'a', at index 0, 1 is right"),
    ],
)
def test_each_way_of_being_wrong_is_named(got: object, want: object, message: str) -> None:
    assert_said(got, want, message)


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        (RIGHT.tolist(), RIGHT, r"yours is a list: `torch.tensor\(...\)` converts it"),
        ([*RIGHT], RIGHT, r"yours is a list: `torch.stack\(...\)` converts it"),
        ([*RIGHT.clone().requires_grad_()], RIGHT, r"yours is a list: `torch.stack\(...\)` conv"),
        (RIGHT.numpy(), RIGHT, r"yours is a NumPy array: `torch.from_numpy\(...\)` converts it"),
        (2.0, torch.tensor(2.0), r"a tensor is expected, yours is a float: `torch.tensor"),
        (RIGHT.double(), RIGHT, r"be torch.float32, yours is torch.float64: `.to\(torch.float32"),
        (RIGHT.bfloat16(), RIGHT, "be torch.float32, yours is torch.bfloat16"),
        (torch.tensor([1, 2]), torch.tensor([1.0, 2.0]), "be torch.float32, yours is torch.int64"),
        ([1, 2], (1, 2), r"a tuple is expected, yours is a list: `tuple\(...\)` converts it"),
        (range(2), [0, 1], r"a list is expected, .*: `list\(...\)` converts it"),
        (torch.arange(2), [0, 1], r"a list is expected, yours is a tensor: `.tolist\(\)` conv"),
        (torch.arange(2), (0, 1), r"a tuple is expected, yours is a tensor: `tuple\(...\)` conv"),
        (torch.eye(2), [[1, 0], [0, 1]], r"a list is expected, yours is a tensor: `.tolist"),
        (RIGHT, (*RIGHT,), r"a tuple is expected, yours is a tensor: `tuple\(...\)` converts it"),
        (RIGHT, [*RIGHT], r"a list is expected, yours is a tensor: `list\(...\)` converts it"),
        (torch.tensor(1.0), 1.0, r"a plain number is expected, yours is a tensor: add `.item\(\)`"),
        (np.float32(1), 1.0, "a plain number is expected, .* of type float32: add `.item"),
        (torch.tensor(True), True, "a bool is expected, yours is a tensor: add `.item"),
        (2.0, 2, r"a whole number is expected, yours is 2.0, a float: `int\(...\)` converts it"),
        (RIGHT + 0j, RIGHT, "be torch.float32, yours is torch.complex64: `.real` leaves"),
        ({"a": (1,)}, {"a": [1]}, "at key 'a', a list is expected, yours is a tuple"),
        ([0, RIGHT.double()], [0, RIGHT], "at index 1, the dtype should be torch.float32"),
    ],
)
def test_kind_and_dtype_are_named_where_the_values_agree(
    got: object, want: object, message: str
) -> None:
    assert value_difference(got, want) is None
    assert_said(got, want, message, exact_kind=True)
    if "complex" not in message:  # a complex number stands for no real one, whatever its value
        assert difference(got, want) is None


@pytest.mark.parametrize(
    ("got", "want", "message"),
    [
        ((RIGHT / 2).tolist(), RIGHT, "every value is 0.5 times what it should be"),
        ([*RIGHT.T], RIGHT, "transpose of the right answer"),
        ((RIGHT + 3).numpy(), RIGHT, "every value is too large by 3"),
        (
            RIGHT.T.tolist()[1:],
            RIGHT[:, 1:],
            r"should be \(5, 4\), yours is \(4, 5\): is .* transp",
        ),
        (torch.tensor([40001]), torch.tensor([40000]).int(), "40000 is right, yours is 40001"),
        (-RIGHT.double(), RIGHT, "every value has the wrong sign"),
        (-RIGHT.bfloat16(), RIGHT, "every value has the wrong sign"),
        (torch.ones(2), torch.tensor([True, True]), "be torch.bool, yours is torch.float32$"),
        (torch.tensor([1, 2]), torch.tensor([1.0, 2.5]), r"1 of 2 .* at \[1\]: 2.5 is right"),
        (RIGHT + 1j, RIGHT, "25 of 25 values differ"),
        (np.array([1.0, NAN]), torch.ones(2), r"1 of 2 values are NaN.* \[1\]"),
        (["a", "b"], torch.ones(2), "a tensor is expected, yours is a list$"),
        ([RIGHT[0], None], RIGHT[:1], "a tensor is expected, yours is a list$"),
        ([[1.0], [1.0, 2.0]], torch.ones(2, 2), "a tensor is expected, yours is a list$"),
        ([True, False], torch.ones(2), "numbers are expected, yours are truth values"),
        (np.array([1, 0]), torch.tensor([True, False]), "truth values are .*, yours are numbers"),
        ({1.0, 2.0}, torch.ones(2), "a tensor is expected, yours is a set"),
        ([1, 3], (1, 2), "at index 1, 2 is right, yours is 3"),
        ((1,), [1, 2], "length should be 2, yours is 1"),
        (torch.tensor([1, 3]), [1, 2], "at index 1, 2 is right, yours is 3"),
        (torch.tensor(2.0), 1.0, "1 is right, yours is 2"),
        (np.float32(2), 1.0, "1 is right, yours is 2"),
        (torch.tensor(False), True, "True is right, yours is False"),
        (np.str_("b"), "a", "'a' is right, yours is 'b'"),
        (torch.tensor(True), 1, "an int is expected, yours is a bool"),
        (torch.ones(2), 1.0, r"a float is expected, yours is a tensor of shape \(2,\)$"),
        (torch.ones(1), 1.0, r"a tensor of shape \(1,\): `.item\(\)` takes the number out"),
        (RIGHT + 0j, RIGHT, "be torch.float32, yours is torch.complex64: `.real` leaves"),
        ([1 + 0j, 2], torch.ones(2), r"1 of 2 values differ"),
        (torch.tensor([1.0, 2.01]), torch.tensor([1, 2]), r"at \[1\]: 2 is right"),
        (torch.tensor(40001.0), 40000, "40000 is right, yours is 40001"),
        (300.001, 300, "300 is right, yours is 300.001"),
        (torch.tensor(302.0).bfloat16(), 300, "300 is right, yours is 302"),
        (torch.tensor([2**31 - 1]), torch.tensor([2**31 - 2]), "2147483646 is right"),
        (torch.tensor(1.1).half(), 1.09, "1.09 is right, yours is 1.09961"),
        ("ab", ("a", "b"), "a tuple is expected, yours is a str"),
        (1.5, 2, "2 is right, yours is 1.5"),
        (1, 1.5, "1.5 is right, yours is 1"),
        (10**400, 1.5, "1.5 is right, yours is 1000"),
        (10**400, 10**400 + 1, "is right, yours is 1000"),
        ({"a": [1], "b": 1}, {"a": (1,), "b": 2}, "at key 'b', 2 is right"),
        ([RIGHT.double(), 3], [RIGHT, 4], "at index 1, 4 is right"),
        (RIGHT, (RIGHT, RIGHT[0]), "^a tuple is expected, yours is a tensor$"),
        (RIGHT.T[:2], (RIGHT[0], RIGHT[1]), "at index 0, 4 of 5 values differ"),
    ],
)
def test_values_come_before_kind_and_dtype(got: object, want: object, message: str) -> None:
    assert_said(got, want, message)


def test_numbers_that_agree_to_six_digits_are_told_apart() -> None:
    found = difference(2e9, 2e9 + 40.0, rtol=1e-9)
    assert found == "2000000040.0 is right, yours is 2000000000.0"


def test_an_int_and_a_numpy_float_serve_as_a_float() -> None:
    assert difference(2, 2.0) is None
    assert difference(np.float64(2), 2.0) is None


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (torch.tensor(2 / 3, dtype=torch.float16), 2 / 3),
        (torch.tensor(1 / 3, dtype=torch.bfloat16), 1 / 3),
        (np.float32(1 / 3), 1 / 3),
        (torch.tensor(6_738_415_616.0), 6_738_415_616),
        (6_738_415_616.0, 6_738_415_616),
        (0.1 * 30, 3),
        (torch.tensor([3.0, 4.0]), [3, 4]),
        (np.array([3, 4], dtype=np.int16), torch.tensor([3, 4])),
        (range(3), torch.arange(3)),
        ({"a": 1.0}.values(), [1.0]),
        (deque([1, 2]), (1, 2)),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(3.0), 3.0),
        ((RIGHT.numpy(), [1]), [RIGHT, torch.tensor([1])]),
    ],
)
def test_values_decide_whatever_holds_them(got: object, want: object) -> None:
    assert difference(got, want) is None


def test_a_narrow_type_is_compared_at_its_own_precision() -> None:
    assert difference(torch.tensor(1 / 3), 1 / 3, rtol=1e-12, atol=0) is None
    assert difference(1 / 3 + 1e-9, 1 / 3, rtol=1e-12, atol=0) is not None


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
    assert kind(np.ones(2)) == "a NumPy array"
