"""Checks of the exercises of chapters/03_data/04_privacy_and_contamination.ipynb."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/04_privacy_and_contamination"

# The check digit


def _luhn_sum(digits: str, doubled_first: bool = True) -> int:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if (place % 2 == 0) == doubled_first else 1)
        total += value - 9 if value > 9 else value
    return total


def _check_digit(body: str) -> int:
    return -_luhn_sum(body) % 10


def _case_large_digits(answer: Any) -> None:
    digit.agree(answer, "498765")
    digit.agree(answer, "79")


def _a_body_whose(answer: Any) -> None:
    digit.agree(answer, "50027")
    digit.agree(answer, "0000")


def _bodies_of_1(answer: Any) -> None:
    for length in range(1, 19):
        digit.agree(answer, str(7**30)[:length])


def _without_digit_sums(body: str) -> int:
    values = [int(d) * (2 if place % 2 == 0 else 1) for place, d in enumerate(reversed(body))]
    return -sum(values) % 10


digit = Exercise(
    "check_digit",
    title="the last digit of a card number",
    reference=_check_digit,
    hints=(
        "The missing digit stands last and counts once; so the last digit of `body` counts twice.",
        "Twice a digit above 4 has two digits: add them up, which is the same as subtracting 9.",
        "The digit brings the sum to a multiple of ten: `-total % 10`.",
    ),
    cases={
        "the body of 4111 1111 1111 1111": args("411111111111111"),
        "large digits": _case_large_digits,
        "a body whose sum is a multiple of ten already": _a_body_whose,
        "bodies of 1 to 18 digits": _bodies_of_1,
    },
    mistakes={
        "that is what the sum leaves, not what it lacks: a sum of 23 asks for 7": lambda body: (
            _luhn_sum(body) % 10
        ),
        "a sum that is a multiple of ten asks for 0; you returned 10": lambda body: (
            10 - _luhn_sum(body) % 10
        ),
        (
            "you doubled every second digit from the left, which is right for bodies of "
            "odd length only: start at the right"
        ): lambda body: -_luhn_sum(body[::-1]) % 10,
        (
            "the wrong half is doubled: the check digit comes last and counts once, so the "
            "last digit of the body counts twice"
        ): lambda body: -_luhn_sum(body, doubled_first=False) % 10,
        "16 counts as 1 + 6, not as 16: add up the digits of a doubled digit": _without_digit_sums,
    },
)


# A place in the text before redaction

_Edits = Sequence[tuple[int, int, int]]


def _place_before(place: int, edits: _Edits) -> int:
    shift = 0  # of the new text against the old, so far
    for start, stop, length in edits:
        if place <= start + shift:
            break
        if place < start + shift + length:
            return start
        shift += length - (stop - start)
    return place - shift


# "Ask ada@example.org or 192.0.2.44!" becomes "Ask <EMAIL> or <IPV4>!"
_MAIL = [(4, 19, 7), (23, 33, 6)]


def _after_one_edit(answer: Any) -> None:
    before.agree(answer, 14, _MAIL[:1])
    before.agree(answer, 11, _MAIL[:1])


def _before_and_at(answer: Any) -> None:
    before.agree(answer, 2, _MAIL)
    before.agree(answer, 4, _MAIL)


def _inside_a_placeholder(answer: Any) -> None:
    before.agree(answer, 7, _MAIL)
    before.agree(answer, 18, _MAIL)


def _every_place_of(answer: Any) -> None:
    edits = [(0, 3, 9), (5, 6, 11), (6, 30, 2), (41, 47, 0)]
    for place in range(47):
        before.agree(answer, place, edits)


def _last_only(place: int, edits: _Edits) -> int:
    total, shift = 0, 0
    for start, stop, length in edits:
        if place <= start + total:
            break
        if place < start + total + length:
            return start
        shift = length - (stop - start)
        total += shift
    return place - shift


def _wrong_way(place: int, edits: _Edits) -> int:
    right = _place_before(place, edits)
    return place - (right - place)


def _old_starts(place: int, edits: _Edits) -> int:
    shift = 0
    for start, stop, length in edits:
        if place <= start:
            break
        if place < start + length:
            return start
        shift += length - (stop - start)
    return place - shift


def _through_placeholders(place: int, edits: _Edits) -> int:
    shift = 0
    for start, stop, length in edits:
        if place < start + shift + length:
            break
        shift += length - (stop - start)
    return place - shift


def _end_inside(place: int, edits: _Edits) -> int:
    shift = 0
    for start, stop, length in edits:
        if place <= start + shift:
            break
        if place <= start + shift + length:
            return start
        shift += length - (stop - start)
    return place - shift


before = Exercise(
    "place_before",
    title="a place of the redacted text, in the original",
    points=2,
    reference=_place_before,
    hints=(
        "Walk through the edits from the left and keep the shift: how much longer (or shorter) "
        "the new text has become so far.",
        "An edit begins at `start + shift` in the new text and ends `length` later.",
        "Three cases: the place is at or before the edit's beginning (stop walking), inside it "
        "(return start), or at its end and beyond (add `length - (stop - start)` to the shift).",
    ),
    cases={
        "no edits": args(5, []),
        "after one edit that shortens the text": _after_one_edit,
        "before and at the beginning of an edit": _before_and_at,
        "inside a placeholder": _inside_a_placeholder,
        "after two edits": args(22, _MAIL),
        "every place of a text with edits that lengthen and shorten it": _every_place_of,
    },
    mistakes={
        "only the last edit before the place counts in yours: the shifts add up": _last_only,
        (
            "the shift has the wrong sign: where the new text is shorter, the old place "
            "lies further on"
        ): _wrong_way,
        (
            "starts are places of the old text; in the new one they are shifted by the edits before"
        ): _old_starts,
        (
            "inside a placeholder there is no place to count from: return where the item began"
        ): _through_placeholders,
        "the place behind a placeholder belongs to what follows: the item's stop": _end_inside,
    },
)


# Exposure


def _exposures(losses: Tensor, others: Tensor) -> Tensor:
    rank = 1 + (others <= losses[:, None]).sum(dim=1)
    return math.log2(others.shape[1] + 1) - rank.double().log2()


def _drawn(n: int, others: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    losses = torch.rand(n, generator=generator, dtype=torch.float64) * 40
    rest = torch.rand(n, others, generator=generator, dtype=torch.float64) * 40
    return losses, rest


def _a_secret_likelier(answer: Any) -> None:
    others = torch.tensor([[7.0, 8.0, 9.0], [1.0, 2.0, 9.0]], dtype=torch.float64)
    bits.agree(answer, torch.tensor([3.0, 3.0], dtype=torch.float64), others)


def _ties_with_other(answer: Any) -> None:
    others = torch.tensor([[3.0, 3.0, 9.0]], dtype=torch.float64)
    bits.agree(answer, torch.tensor([3.0], dtype=torch.float64), others)


def _without_itself(losses: Tensor, others: Tensor) -> Tensor:
    rank = 1 + (others <= losses[:, None]).sum(dim=1)
    return math.log2(others.shape[1]) - rank.double().log2()


def _from_zero(losses: Tensor, others: Tensor) -> Tensor:
    rank = (others <= losses[:, None]).sum(dim=1)
    return math.log2(others.shape[1] + 1) - rank.double().log2()


def _from_the_worst(losses: Tensor, others: Tensor) -> Tensor:
    rank = 1 + (others >= losses[:, None]).sum(dim=1)
    return math.log2(others.shape[1] + 1) - rank.double().log2()


def _all_others(losses: Tensor, others: Tensor) -> Tensor:
    rank = 1 + (others[None] <= losses[:, None, None]).flatten(1).sum(dim=1)
    return math.log2(others.shape[1] + 1) - rank.double().log2()


def _ties_for(losses: Tensor, others: Tensor) -> Tensor:
    rank = 1 + (others < losses[:, None]).sum(dim=1)
    return math.log2(others.shape[1] + 1) - rank.double().log2()


bits = Exercise(
    "exposures",
    title="the exposure of several secrets",
    points=2,
    reference=_exposures,
    hints=(
        "A secret's rank is 1 plus the number of others that are at most as surprising.",
        "`others <= losses[:, None]` compares each secret with its own row.",
        "`math.log2(n + 1) - rank.double().log2()`, where n is the number of others.",
    ),
    cases={
        "a secret likelier than three others, and one in third place": _a_secret_likelier,
        "ties with other numbers": _ties_with_other,
        "13 secrets among 127 others": args(*_drawn(13, 127, 0)),
    },
    mistakes={
        "natural logarithms: exposure is in bits": lambda losses, others: (
            _exposures(losses, others) * math.log(2)
        ),
        (
            "the secret is one of the candidates itself: there are one more than others"
        ): _without_itself,
        (
            "the best rank is 1, and you count from 0: the likeliest secret would have "
            "infinite exposure"
        ): _from_zero,
        "you ranked from the most surprising: a small loss is a good rank": _from_the_worst,
        (
            "each secret has its own row of others: compare row by row (`losses[:, None]`)"
        ): _all_others,
        (
            "a tie counts against the secret: `<=`, or a model that finds all numbers "
            "alike would know every secret"
        ): _ties_for,
    },
)
