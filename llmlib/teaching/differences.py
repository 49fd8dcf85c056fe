"""Say in words how an answer differs from the right one."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence, ValuesView
from typing import Any

import numpy as np
import torch
from torch import Tensor

_KINDS = {
    bool: "a bool",
    int: "an int",
    float: "a float",
    str: "a str",
    list: "a list",
    tuple: "a tuple",
    dict: "a dict",
    set: "a set",
    bytes: "bytes",
    np.ndarray: "a NumPy array",
    type(None): "None",
}


def difference(
    got: Any,
    want: Any,
    *,
    rtol: int | float = 1e-4,
    atol: int | float = 1e-5,
    exact_kind: bool = False,
) -> str | None:
    """Describe the first way in which an answer is wrong, most basic first; None where it is right.

    Values decide: a list, a tuple, an array and a tensor of any width are equal if what they hold
    is; see `value_difference`. With `exact_kind` the kind and the dtype must be right, too, and are
    named where the values are. Where all values are wrong in one way (a factor, an offset, a
    transposition), it says that instead of listing numbers. Values are tensors, numbers, strings,
    None, or lists, tuples and dicts of such. The clause stands behind the name of a check.

    Example:
        >>> difference(torch.ones(2, 3), torch.ones(3, 2))
        'the shape should be (3, 2), yours is (2, 3): is something transposed?'
        >>> difference([2.0, 4.0], torch.tensor([1.0, 2.0]))
        'every value is 2 times what it should be'
        >>> difference([1.0, 2.0], torch.tensor([1.0, 2.0])) is None
        True
        >>> difference([1.0, 2.0], torch.tensor([1.0, 2.0]), exact_kind=True)
        'a tensor is expected, yours is a list: `torch.tensor(...)` converts it'
    """
    if got is None and want is not None:
        return f"{kind(want)} is expected, you returned None: does it end with `return`?"
    if found := value_difference(got, want, rtol=rtol, atol=atol):
        return found
    return _kind_difference(got, want) if exact_kind or _only_got_is_complex(got, want) else None


def value_difference(
    got: Any, want: Any, *, rtol: int | float = 1e-4, atol: int | float = 1e-5
) -> str | None:
    """Describe the first difference in shape or value, whatever holds the values.

    A list stands for a tuple or a tensor, a tensor for a list, one of shape () for a number, and
    float16 for float64: numbers are compared at the precision of the answer's type, where that is
    lower than the tolerances, and whole ones exactly. What cannot be converted differs by its kind:
    text, a truth value or None is no number.

    Example:
        >>> value_difference([1, 2], (1, 2)) is None
        True
        >>> value_difference(True, 1)
        'an int is expected, yours is a bool'
    """
    if isinstance(want, Tensor):
        return _tensor(got, want, rtol, atol)
    if isinstance(want, (int, float)) and not isinstance(want, bool):
        return _number(got, want, rtol, atol)
    if isinstance(want, dict):
        return _mapping(got, want, rtol, atol)
    if isinstance(want, (list, tuple)):
        return _sequence(got, want, rtol, atol)
    return _plain(got, want)


def kind(value: object) -> str:
    """Name what a value is, with its article.

    Example:
        >>> kind([1]), kind(torch.ones(2)), kind(None)
        ('a list', 'a tensor', 'None')
    """
    if isinstance(value, Tensor):
        return "a tensor"
    if type(value).__name__ == "Remote":  # an object of the student's process describes itself
        return repr(value)
    name = type(value).__name__
    return _KINDS.get(type(value), f"an object of type {name}")


def _wrong_kind(got: Any, want: Any) -> str:
    text = f"{kind(want)} is expected, yours is {kind(got)}"
    if isinstance(want, (int, float, str)) and isinstance(got, (Tensor, np.ndarray)):
        text += f" of shape {tuple(got.shape)}"
        text += ": `.item()` takes the number out" if math.prod(got.shape) == 1 else ""
    return text


def _plain(got: Any, want: Any) -> str | None:
    got = _unwrapped(got)
    if type(got) is not type(want):
        return _wrong_kind(got, want)
    return None if got == want else _instead(got, want)


def _unwrapped(value: Any) -> Any:
    """Take a number, truth value or text out of a tensor or NumPy array that holds it alone."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value if value.ndim else value.item()
    return value.item() if isinstance(value, np.generic) else value


def _rounding(value: Any) -> float:
    """Return how far apart numbers of a value's type lie, relatively; 0 for whole ones."""
    if isinstance(value, Tensor):
        return torch.finfo(value.dtype).eps if value.is_floating_point() else 0.0
    if isinstance(value, (np.ndarray, np.generic)):
        return float(np.finfo(value.dtype.name).eps) if value.dtype.kind == "f" else 0.0
    return sys.float_info.epsilon if isinstance(value, float) else 0.0


def _tolerances(
    eps: float, is_whole: bool, rtol: int | float, atol: int | float
) -> tuple[float, float]:
    """Widen the tolerances by what the answer's type rounds; whole numbers have that alone."""
    if is_whole:
        return (eps / 2, 1e-6) if eps else (0.0, 0.0)
    return max(rtol, 4 * eps), atol


def _instead(got: object, want: object) -> str:
    mine, right = _short(got), _short(want)
    if mine == right:
        mine, right = repr(got), repr(want)
    return f"{right} is right, yours is {mine}"


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _number(got: Any, want: int | float, rtol: int | float, atol: int | float) -> str | None:
    rtol, atol = _tolerances(_rounding(got), isinstance(want, int), rtol, atol)
    got = _unwrapped(got)
    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return _wrong_kind(got, want)
    if isinstance(got, int) and isinstance(want, int):
        return None if got == want else _instead(got, want)
    if any(isinstance(x, int) and abs(x) > sys.float_info.max for x in (got, want)):
        return _instead(got, want)  # no float can stand for it
    if math.isclose(got, want, rel_tol=rtol, abs_tol=atol) or (got != got and want != want):
        return None
    return _instead(got, want)


def _mapping(got: Any, want: dict[Any, Any], rtol: int | float, atol: int | float) -> str | None:
    if not isinstance(got, dict):
        return _wrong_kind(got, want)
    for key in want:
        if key not in got:
            return f"the key {key!r} is missing"
        if found := value_difference(got[key], want[key], rtol=rtol, atol=atol):
            return f"at key {key!r}, {found}"
    extra = [key for key in got if key not in want]
    return f"the key {extra[0]!r} should not be there" if extra else None


def _sequence(got: Any, want: Any, rtol: int | float, atol: int | float) -> str | None:
    if isinstance(got, (Tensor, np.ndarray)) and got.ndim:
        if any(isinstance(right, Tensor) and right.shape != got.shape[1:] for right in want):
            return _wrong_kind(got, want)  # one tensor alone, not several stacked
        items = list(got)
    elif isinstance(got, (Sequence, ValuesView)) and not isinstance(got, (str, bytes)):
        items = list(got)
    else:
        return _wrong_kind(got, want)
    for index, (mine, right) in enumerate(zip(items, want, strict=False)):
        if found := value_difference(mine, right, rtol=rtol, atol=atol):
            return f"at index {index}, {found}"
    if len(items) != len(want):
        return f"its length should be {len(want)}, yours is {len(items)}"
    return None


def _tensor(got: Any, want: Tensor, rtol: int | float, atol: int | float) -> str | None:
    mine, right = _as_tensor(got), want.detach().cpu()
    if mine is None:
        return _wrong_kind(got, want)
    if mine.shape != right.shape:
        turned = sorted(mine.shape) == sorted(right.shape)
        ending = ": is something transposed?" if turned else ""
        return f"the shape should be {tuple(right.shape)}, yours is {tuple(mine.shape)}{ending}"
    is_whole = not (right.is_floating_point() or right.is_complex())
    rtol, atol = _tolerances(_rounding(mine), is_whole, rtol, atol)
    if mine.dtype != right.dtype:
        if torch.bool in (mine.dtype, right.dtype):
            return _tensor_kind(got, want) if isinstance(got, Tensor) else _truth_kind(right)
        is_complex = mine.is_complex() or right.is_complex()
        mine, right = (
            x.to(torch.complex128 if is_complex else torch.float64) for x in (mine, right)
        )
    close = torch.isclose(mine, right, rtol=rtol, atol=atol, equal_nan=True)
    if bool(close.all()):
        return None
    return _pattern(mine, right, rtol, atol) or _first_of(mine, right, close)


def _as_tensor(value: Any) -> Tensor | None:
    """Convert a tensor, an array, a number, or nested lists of such; None where it cannot be."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        if isinstance(value, range):
            value = list(value)
        if _holds(value, (Tensor, list, tuple)):
            parts = [part for item in value if (part := _as_tensor(item)) is not None]
            return torch.stack(parts) if len(parts) == len(value) else None
        if isinstance(value, (int, float, complex, list, tuple, np.ndarray, np.generic)):
            return torch.from_numpy(np.array(value))
    except (TypeError, ValueError, RuntimeError):  # no numbers, or lists of unequal length
        pass
    return None


def _holds(value: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(item, kinds) for item in value)


def _first_of(got: Tensor, want: Tensor, close: Tensor) -> str:
    index = (~close).nonzero()[0].tolist()
    place = f" at {index}" if index else ""
    here, there = got[tuple(index)].item(), want[tuple(index)].item()
    wrong = int((~close).sum())
    count = (
        f"{wrong} of {close.numel()} values differ" if close.numel() > 1 else "the value differs"
    )
    return f"{count}, the first{place}: {_instead(here, there)}"


def _pattern(got: Tensor, want: Tensor, rtol: int | float, atol: int | float) -> str | None:
    """Look for one cause behind all the differences."""
    if got.isnan().any() and not want.isnan().any():
        index = got.isnan().nonzero()[0].tolist()
        return f"{int(got.isnan().sum())} of {got.numel()} values are NaN, the first at {index}"
    if not want.is_floating_point() or want.numel() < 2:
        return None

    def same(left: Tensor, right: Tensor) -> bool:
        return torch.allclose(left, right, rtol=max(rtol, 1e-4), atol=atol)

    if want.ndim >= 2 and want.shape[-1] == want.shape[-2] and same(got.mT, want):
        return "it is the transpose of the right answer"
    if same(-got, want):
        return "every value has the wrong sign"
    finite = want.isfinite() & (want.abs() > 100 * atol)
    if finite.sum() >= 2:
        ratio = (got[finite] / want[finite]).median().item()
        if ratio and math.isfinite(ratio) and same(got, ratio * want):
            return f"every value is {ratio:.4g} times what it should be"
        offset = (got[finite] - want[finite]).median().item()
        if math.isfinite(offset) and same(got, want + offset):
            way = "large" if offset > 0 else "small"
            return f"every value is too {way} by {abs(offset):.4g}"
    return None


def _only_got_is_complex(got: Any, want: Any) -> bool:
    mine = _as_tensor(got) if isinstance(want, Tensor) and not want.is_complex() else None
    return mine is not None and mine.is_complex()


def _kind_difference(got: Any, want: Any) -> str | None:
    """Describe the first difference in kind or dtype between equal values."""
    if isinstance(want, Tensor):
        return _tensor_kind(got, want)
    if isinstance(want, dict):
        inner = [(f"at key {key!r}", got[key], want[key]) for key in want]
    elif isinstance(want, (list, tuple)):
        if type(got) is not type(want):
            return _sequence_kind(got, want)
        inner = [(f"at index {i}", *pair) for i, pair in enumerate(zip(got, want, strict=True))]
    else:
        return _scalar_kind(got, want)
    for place, mine, right in inner:
        if found := _kind_difference(mine, right):
            return f"{place}, {found}"
    return None


def _tensor_kind(got: Any, want: Tensor) -> str | None:
    if isinstance(got, Tensor):
        if got.dtype == want.dtype:
            return None
        text = f"the dtype should be {want.dtype}, yours is {got.dtype}"
        if got.is_complex() and not want.is_complex():
            return f"{text}: `.real` leaves the imaginary part out"
        # A mask is made by a comparison, not by converting numbers.
        has_bool = torch.bool in (got.dtype, want.dtype)
        return text if has_bool else f"{text}: `.to({want.dtype})` converts it"
    way = "torch.stack" if _holds(got, Tensor) else "torch.tensor"
    if isinstance(got, np.ndarray):
        way = "torch.from_numpy"
    return f"{_wrong_kind(got, want)}: `{way}(...)` converts it"


def _truth_kind(want: Tensor) -> str:
    truth, numbers = "truth values", "numbers"
    expected, mine = (truth, numbers) if want.dtype == torch.bool else (numbers, truth)
    return f"{expected} are expected, yours are {mine}"


def _sequence_kind(got: Any, want: Any) -> str:
    way = f"{type(want).__name__}(...)"
    if isinstance(got, (Tensor, np.ndarray)) and way == "list(...)" and not _holds(want, Tensor):
        way = ".tolist()"
    return f"{_wrong_kind(got, want)}: `{way}` converts it"


def _scalar_kind(got: Any, want: Any) -> str | None:
    is_number = isinstance(want, (int, float)) and not isinstance(want, bool)
    if isinstance(got, (Tensor, np.ndarray, np.generic)) and not isinstance(got, type(want)):
        expected = "a plain number" if is_number else kind(want)
        return f"{expected} is expected, yours is {kind(got)}: add `.item()`"
    if isinstance(want, int) and isinstance(got, float):
        return f"a whole number is expected, yours is {got!r}, a float: `int(...)` converts it"
    return None
