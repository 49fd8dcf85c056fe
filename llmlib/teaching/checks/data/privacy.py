"""Checks of the exercises of chapters/03_data/04_privacy_and_contamination.ipynb."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "03_data/04_privacy_and_contamination"

# The check digit


def _luhn(digits: str, *, doubled_first: bool = True, largest: int = 9) -> int:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if (place % 2 == 0) == doubled_first else 1)
        total += value - 9 if value > largest else value
    return total


digit = Exercise(
    "check_digit",
    title="the last digit of a card number",
    reference=lambda body: -_luhn(body) % 10,
    hints=(
        "The missing digit stands last and counts once; so the last digit of `body` counts twice.",
        "Twice a digit above 4 has two digits: add them up, which is the same as subtracting 9.",
        "The digit brings the sum to a multiple of ten: `-total % 10`.",
    ),
    cases={
        "the body of 4111 1111 1111 1111": args("411111111111111"),
        "large digits": [args("498765"), args("79")],
        "a body whose sum is a multiple of ten already": [args("50027"), args("0000")],
        "bodies of 1 to 18 digits": [args(str(7**30)[:n]) for n in range(1, 19)],
    },
    mistakes={
        "not what the sum leaves but what it lacks: 23 asks for 7": lambda body: _luhn(body) % 10,
        "a multiple of ten asks for 0; you returned 10": lambda body: 10 - _luhn(body) % 10,
        "you doubled every second digit from the left, which is right for bodies of odd length "
        "only: start at the right": lambda body: -_luhn(body[::-1]) % 10,
        "the wrong half is doubled: the check digit comes last and counts once, so the last digit "
        "of the body counts twice": lambda body: -_luhn(body, doubled_first=False) % 10,
        "16 counts as 1 + 6, not as 16: add up the digits of a doubled digit": (
            lambda body: -_luhn(body, largest=18) % 10
        ),
    },
)


# A place in the text before redaction

_Edits = Sequence[tuple[int, int, int]]


def _place_before(
    place: int, edits: _Edits, *, shifted: bool = True, snaps: bool = True, beyond: int = 0
) -> int:
    shift = 0  # of the new text against the old, so far
    for start, stop, length in edits:
        begin = start + shift if shifted else start
        if place < begin:
            break
        if place < begin + length + beyond:
            if snaps:
                return start
            break
        shift += length - (stop - start)
    return place - shift


# "Ask ada@example.org or 192.0.2.44!" becomes "Ask <EMAIL> or <IPV4>!"
_MAIL = [(4, 19, 7), (23, 33, 6)]
_MANY = [(0, 3, 9), (5, 6, 11), (6, 30, 2), (41, 47, 0)]
_CUT_OUT = [(0, 3, 0), (5, 8, 0), (8, 10, 3), (12, 12, 2), (14, 15, 0), (15, 17, 0)]


def _last_only(place: int, edits: _Edits) -> int:
    total, shift = 0, 0
    for start, stop, length in edits:
        if place < start + total:
            break
        if place < start + total + length:
            return start
        shift = length - (stop - start)
        total += shift
    return place - shift


def _stays_before(place: int, edits: _Edits) -> int:
    """Take the beginning of a deletion for the place where it was."""
    shift = 0
    for start, stop, length in edits:
        if place <= start + shift:
            break
        if place < start + shift + length:
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
        "Three cases: the place is before the edit's beginning (stop walking), inside it (return "
        "start), or at its end and beyond (add `length - (stop - start)` to the shift). What was "
        "deleted, with a length of 0, has no inside.",
    ),
    cases={
        "no edits": args(5, []),
        "after one edit that shortens the text": [args(14, _MAIL[:1]), args(11, _MAIL[:1])],
        "before and at the beginning of an edit": [args(2, _MAIL), args(4, _MAIL)],
        "inside a placeholder": [args(7, _MAIL), args(18, _MAIL)],
        "after two edits": args(22, _MAIL),
        "every place of a text with edits that lengthen and shorten it": [
            args(place, _MANY) for place in range(35)
        ],
        "where something was deleted, and behind it": [args(place, _MANY) for place in (35, 40)],
        "deletions at the beginning, side by side and beside a replacement, and an insertion": [
            args(place, _CUT_OUT) for place in range(16)
        ],
    },
    mistakes={
        "only the last edit before the place counts in yours: the shifts add up": _last_only,
        "the shift has the wrong sign: in a shorter text the old place lies further on": (
            lambda place, edits: 2 * place - _place_before(place, edits)
        ),
        "starts are places of the old text; "
        "the edits before them shift them in the new one": partial(_place_before, shifted=False),
        "inside a placeholder there is no place to count from: "
        "return where the item began": partial(_place_before, snaps=False),
        "nothing stands for what was deleted: its place in the new text is that of what followed "
        "it, the deletion's stop": _stays_before,
        "the place behind a placeholder belongs to what follows: the item's stop": partial(
            _place_before, beyond=1
        ),
    },
)


# Exposure


def _exposures(
    losses: Tensor,
    others: Tensor,
    *,
    beats: Callable[[Tensor, Tensor], Tensor] = torch.le,
    first: int = 1,
    itself: int = 1,
) -> Tensor:
    rank = first + beats(others, losses[:, None]).sum(dim=1)
    return math.log2(others.shape[1] + itself) - rank.double().log2()


_doubles = partial(torch.tensor, dtype=torch.float64)


def _drawn(n: int, others: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(n, generator=generator, dtype=torch.float64) * 40
    return losses, torch.rand(n, others, generator=generator, dtype=torch.float64) * 40


def _all_others(losses: Tensor, others: Tensor) -> Tensor:
    rank = 1 + (others.flatten() <= losses[:, None]).sum(dim=1)
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
        "a secret likelier than three others, and one in third place": args(
            _doubles([3.0, 3.0]), _doubles([[7.0, 8, 9], [1.0, 2, 9]])
        ),
        "ties with other numbers": args(_doubles([3.0]), _doubles([[3.0, 3, 9]])),
        "the least likely of all, and no others": [
            args(_doubles([9.0]), _doubles([[1.0, 2, 3]])),
            args(_doubles([4.0, 5.0]), torch.zeros(2, 0, dtype=torch.float64)),
        ],
        "13 secrets among 127 others": args(*_drawn(13, 127)),
    },
    mistakes={
        "natural logarithms: exposure is in bits": lambda *x: _exposures(*x) * math.log(2),
        "the secret is a candidate too: one more than the others": partial(_exposures, itself=0),
        "the best rank is 1, and you count from 0: the likeliest secret would have infinite "
        "exposure": partial(_exposures, first=0),
        "small losses rank first; you began with the large ones": partial(
            _exposures, beats=torch.ge
        ),
        "each secret has its own row of others: compare with `losses[:, None]`": _all_others,
        "a tie counts against the secret: `<=`, or a model that finds all numbers alike would know "
        "every secret": partial(_exposures, beats=torch.lt),
    },
)
