"""Say in words how an answer differs from the right one."""

from __future__ import annotations

import math
from typing import Any

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
    type(None): "None",
}


def difference(
    got: Any, want: Any, *, rtol: int | float = 1e-4, atol: int | float = 1e-5
) -> str | None:
    """Describe the first way in which an answer is wrong, most basic first.

    Kind before shape before dtype before values, because a wrong shape explains wrong values and
    not the other way round. Where all values are wrong in one way (a factor, an offset, a
    transposition), it says that instead of listing numbers.

    Args:
        got: The answer: a tensor, number, string, None, or a list, tuple or dict of such.
        want: The right value.
        rtol: Relative tolerance of numbers.
        atol: Absolute tolerance of numbers.

    Returns:
        A clause to put behind the name of a check; None where the two agree.

    Example:
        >>> difference(torch.ones(2, 3), torch.ones(3, 2))
        'the shape should be (3, 2), yours is (2, 3): is something transposed?'
        >>> difference(torch.tensor([2.0, 4.0]), torch.tensor([1.0, 2.0]))
        'every value is 2 times what it should be'
        >>> difference(3, 3) is None
        True
    """
    if isinstance(want, Tensor):
        return _tensor(got, want, rtol, atol)
    if isinstance(want, (bool, str, bytes, type(None))):
        return _plain(got, want)
    if isinstance(want, (int, float)):
        return _number(got, want, rtol, atol)
    if isinstance(want, dict):
        return _mapping(got, want, rtol, atol)
    if isinstance(want, (list, tuple)):
        return _sequence(got, want, rtol, atol)
    return _plain(got, want)


def kind(value: object) -> str:
    """Name what a value is, with its article.

    Returns:
        For example `a tensor` or `a list`.

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
    if got is None:
        return f"{kind(want)} is expected, you returned None: does it end with `return`?"
    return f"{kind(want)} is expected, yours is {kind(got)}"


def _plain(got: Any, want: Any) -> str | None:
    if type(got) is not type(want):
        return _wrong_kind(got, want)
    return None if got == want else f"{_short(want)} is right, yours is {_short(got)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _number(got: Any, want: int | float, rtol: int | float, atol: int | float) -> str | None:
    if isinstance(got, Tensor) and got.numel() == 1:
        return f"a plain number is expected, yours is a tensor of {got.numel()}: add `.item()`"
    if isinstance(got, bool) or not isinstance(got, (int, float)):
        return _wrong_kind(got, want)
    if isinstance(want, int) and not isinstance(got, int):
        return f"a whole number is expected, yours is {got!r}, a float"
    if math.isclose(got, want, rel_tol=rtol, abs_tol=atol) or (got != got and want != want):
        return None
    return f"{want:.6g} is right, yours is {got:.6g}"


def _mapping(got: Any, want: dict[Any, Any], rtol: int | float, atol: int | float) -> str | None:
    if not isinstance(got, dict):
        return _wrong_kind(got, want)
    for key in want:
        if key not in got:
            return f"the key {key!r} is missing"
        if found := difference(got[key], want[key], rtol=rtol, atol=atol):
            return f"at key {key!r}, {found}"
    extra = [key for key in got if key not in want]
    return f"the key {extra[0]!r} should not be there" if extra else None


def _sequence(got: Any, want: Any, rtol: int | float, atol: int | float) -> str | None:
    if type(got) is not type(want):
        return _wrong_kind(got, want)
    for index, (mine, right) in enumerate(zip(got, want, strict=False)):
        if found := difference(mine, right, rtol=rtol, atol=atol):
            return f"at index {index}, {found}"
    if len(got) != len(want):
        return f"its length should be {len(want)}, yours is {len(got)}"
    return None


def _tensor(got: Any, want: Tensor, rtol: int | float, atol: int | float) -> str | None:
    if not isinstance(got, Tensor):
        return _wrong_kind(got, want)
    if got.shape != want.shape:
        turned = sorted(got.shape) == sorted(want.shape)
        ending = ": is something transposed?" if turned else ""
        return f"the shape should be {tuple(want.shape)}, yours is {tuple(got.shape)}{ending}"
    if got.dtype != want.dtype:
        return f"the dtype should be {want.dtype}, yours is {got.dtype}"
    mine, right = got.detach().cpu(), want.detach().cpu()
    close = torch.isclose(mine, right, rtol=rtol, atol=atol, equal_nan=True)
    if bool(close.all()):
        return None
    if pattern := _pattern(mine, right, rtol, atol):
        return pattern
    index = (~close).nonzero()[0].tolist()
    place = f" at {index}" if index else ""
    here, there = mine[tuple(index)].item(), right[tuple(index)].item()
    wrong = int((~close).sum())
    count = (
        f"{wrong} of {close.numel()} values differ" if close.numel() > 1 else "the value differs"
    )
    return f"{count}, the first{place}: {there:.6g} is right, yours is {here:.6g}"


def _pattern(got: Tensor, want: Tensor, rtol: int | float, atol: int | float) -> str | None:
    """Look for one cause behind all the differences.

    Returns:
        What was found, or None.
    """
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
