"""Checks of the exercises of chapters/05_training/04_number_formats.ipynb."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.authoring import Exercise, args, expect, normal, uniform
from llmlib.training.formats.elements import E2M1, power_below

NOTEBOOK = "05_training/04_number_formats"


def _codes(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)


# Two codes in a byte


def _pack(codes: Tensor, *, first_shift: int = 0, second_shift: int = 4) -> Tensor:
    codes = F.pad(codes, (0, codes.shape[-1] % 2))
    return codes[..., ::2] << first_shift | codes[..., 1::2] << second_shift


def _pack_halves(codes: Tensor) -> Tensor:
    codes = F.pad(codes, (0, codes.shape[-1] % 2))
    low, high = codes.chunk(2, dim=-1)
    return low | high << 4


packing = Exercise(
    "pack_four_bits",
    title="two four-bit codes in a byte",
    reference=_pack,
    hints=(
        "A byte has two halves of four bits: neighbours in the row share one.",
        "The even places are `codes[..., ::2]`, the odd ones `codes[..., 1::2]`; a row of odd "
        "length gets a code of zero at its end first, with `torch.nn.functional.pad`.",
        "`even | odd << 4`: the shift moves a code to the byte's upper half.",
    ),
    cases={
        "1, 2: the byte 0x21": args(_codes(1, 2)),
        "six codes with the largest": args(_codes(15, 0, 0, 15, 7, 9)),
        "an odd length": args(_codes(3, 14, 5)),
        "rows of five": args(torch.arange(15, dtype=torch.uint8).view(3, 5)),
        "one code": args(_codes(11)),
    },
    mistakes={
        "the first code of a pair belongs to the lower half of the byte; yours is in the upper": (
            partial(_pack, first_shift=4, second_shift=0)
        ),
        "neighbours share a byte; yours pairs the first half of the row with the second": (
            _pack_halves
        ),
        "the second code must be shifted by four bits, or the two overlap": partial(
            _pack, second_shift=0
        ),
        "codes have four bits, so shift by 4; you shifted by 3": partial(_pack, second_shift=3),
        "all codes of a tensor were paired in one line: pair within each row, and fill each row "
        "of odd length": lambda codes: _pack(codes.reshape(-1)),
    },
)


# A product in three halves


def _halves(x: Tensor, *, of_what: str = "rest") -> tuple[Tensor, Tensor]:
    high = x.bfloat16().float()
    rest = {"whole": x, "wrong sign": high - x}.get(of_what, x - high)
    return high, rest if of_what == "wide" else rest.bfloat16().float()


def _three_products(
    a: Tensor,
    b: Tensor,
    *,
    of_what: str = "rest",
    keep: str = "hh hl lh",
    round_each: bool = False,
) -> Tensor:
    parts_a = dict(zip("hl", _halves(a, of_what=of_what), strict=True))
    parts_b = dict(zip("hl", _halves(b, of_what=of_what), strict=True))
    products = [parts_a[x] @ parts_b[y] for x, y in keep.split()]
    if round_each:
        products = [product.bfloat16().float() for product in products]
    return torch.stack(products).sum(dim=0)


split_product = Exercise(
    "product_of_halves",
    title="a product in float32 from bfloat16 parts",
    points=2,
    reference=_three_products,
    hints=(
        "`high = x.bfloat16().float()` keeps eight binary digits. What is left of x?",
        "`low = (x - high).bfloat16().float()` keeps the next eight. The difference is exact.",
        "(ah + al)(bh + bl) has four products; al @ bl is the one that is too small to matter.",
    ),
    cases={
        "one number: 1.01 times 1.01": args(torch.tensor([[1.01]]), torch.tensor([[1.01]])),
        "5 by 7 times 7 by 3": args(normal(5, 7), normal(7, 3, seed=1)),
        "numbers of very different size": args(
            normal(5, 7) * torch.logspace(-6, 6, 7), normal(7, 3, seed=1)
        ),
        "numbers that bfloat16 has": args(torch.eye(3), torch.ones(3, 2) * 0.5),
        "a sum of which the product of the two rests would be all that is left": args(
            32 * torch.tensor([[1 + 2**-8, -1.0]]), 32 * torch.tensor([[1 + 2**-8], [1 + 2**-7]])
        ),
        "a rest that bfloat16 does not hold": args(
            64 * torch.tensor([[1 + 2**-9 + 2**-17, -1.0, -(2**-9)]]), 64 * torch.ones(3, 1)
        ),
    },
    mistakes={
        "this is a product of numbers rounded to bfloat16 alone: about 2 digits": partial(
            _three_products, keep="hh"
        ),
        "one mixed product is missing: the rest of a meets b, and the rest of b meets a": partial(
            _three_products, keep="hh hl"
        ),
        "the second part holds what the first left over, x - high, not x again": partial(
            _three_products, of_what="whole"
        ),
        "the rest has the wrong sign: it is x less its rounded part": partial(
            _three_products, of_what="wrong sign"
        ),
        "the three products are right, but their sum was rounded to bfloat16: keep float32": (
            lambda a, b: _three_products(a, b).bfloat16().float()
        ),
        "each product was rounded to bfloat16 before the sum: multiply the parts as float32": (
            partial(_three_products, round_each=True)
        ),
        "the product of the two rests is in it, which was to be left out: three products, not the "
        "whole": lambda a, b: a @ b,
        "the rest is rounded to bfloat16 as well: the processor multiplies nothing wider": partial(
            _three_products, of_what="wide"
        ),
    },
)


# Weights in bfloat16 that forget nothing


def _remembered(
    weights: Tensor,
    rest: Tensor,
    update: Tensor,
    *,
    sign: int = 1,
    add_rest: bool = True,
    of_what: str = "wanted",
) -> tuple[Tensor, Tensor]:
    wanted = update.float() + (rest.float() if add_rest else 0)
    new = (weights.float() + wanted).bfloat16()
    came = new.float() - weights.float()
    left = {"wanted": wanted, "update": update.float()}[of_what] - came
    return new, (sign * left).bfloat16()


def _both_are_half(answer: Callable[..., Any]) -> None:
    found = answer(_WEIGHTS.clone(), _REST.clone(), normal(11, seed=2) / 500)
    for name, part in zip(("weights", "rest"), found, strict=True):
        expect(getattr(part, "dtype", None) == torch.bfloat16, _TOO_WIDE.format(name))


_TOO_WIDE = "the values are right, but the new {} are to be kept in bfloat16: `.bfloat16()`"
_WEIGHTS = normal(11).bfloat16()
_REST = (normal(11, seed=1) / 1000).bfloat16()

kahan = Exercise(
    "remembering_update",
    title="what rounding took, kept for the next update",
    points=3,
    reference=_remembered,
    hints=(
        "Add what is left from before to the update first; then add both to the weights and round.",
        "How much did the weights really move? `new.float() - weights.float()`, which is exact.",
        "What was wanted less what came is the new rest; it is small, so bfloat16 holds it well.",
    ),
    cases={
        "1 plus 0.001, with nothing left over": args(
            torch.ones(1).bfloat16(), torch.zeros(1).bfloat16(), torch.tensor([0.001])
        ),
        "1 plus 0.001, with 0.0035 left over": args(
            torch.ones(1).bfloat16(), torch.tensor([0.0035]).bfloat16(), torch.tensor([0.001])
        ),
        "eleven weights": args(_WEIGHTS, _REST, normal(11, seed=2) / 500),
        "an update that rounds up": args(
            torch.ones(2).bfloat16(), torch.zeros(2).bfloat16(), torch.tensor([0.006, -0.003])
        ),
        "a large update with digits that bfloat16 does not hold": args(
            torch.tensor([1000.0]).bfloat16(), torch.zeros(1).bfloat16(), torch.tensor([4.015])
        ),
        "both in bfloat16": _both_are_half,
    },
    mistakes={
        "the weights are right, but the rest has the wrong sign: what was wanted less what came": (
            partial(_remembered, sign=-1)
        ),
        "the rest from before was not added to this update": partial(_remembered, add_rest=False),
        "what was wanted is the update and the rest from before; yours forgets the latter when it "
        "takes what is left": partial(_remembered, of_what="update"),
        "the update was rounded to bfloat16 before it was added: its last digits are lost for "
        "good; add in float32": lambda w, rest, update: _remembered(w, rest, update.bfloat16()),
        _TOO_WIDE.format("rest"): lambda w, rest, update: (
            (new := _remembered(w, rest, update)[0]),
            update.float() + rest.float() - (new.float() - w.float()),
        ),
        "the rest must hold what rounding took; yours is zero": (
            lambda w, rest, update: (
                (w.float() + update.float() + rest.float()).bfloat16(),
                torch.zeros_like(rest),
            )
        ),
        "add the small numbers to each other first, in float32: after the update was added to the "
        "weights in bfloat16 it is gone": (
            lambda w, rest, update: (
                ((w + update.bfloat16()) + rest),
                (update.float() + rest.float()
                 - (((w + update.bfloat16()) + rest).float() - w.float())).bfloat16(),
            )
        ),
    },
)  # fmt: skip


# MXFP4 that is right on average


def _fair(
    x: Tensor,
    chance: Tensor,
    *,
    shrink: float = 0.75,
    grow: float = 4 / 3,
    exact_scale: bool = False,
    nearest: bool = False,
    upside_down: bool = False,
    by_size: bool = False,
    shrunk_first: bool = False,
) -> Tensor:
    if by_size:
        return _fair(x.abs(), chance) * x.sign()
    if shrunk_first:
        return _fair(0.75 * x, chance, shrink=1.0)
    largest = x.abs().amax(dim=-1, keepdim=True)
    scale = largest / 6 if exact_scale else power_below(largest) / 4
    scaled = shrink * x / scale.clamp_min(2.0**-127)
    steps = scaled / E2M1.spacing(scaled)
    below = steps.floor()
    up = steps - below > 0.5 if nearest else chance < steps - below
    if upside_down:
        up = chance > steps - below
    rounded = ((below + up) * E2M1.spacing(scaled)).clamp(-6, 6)
    return grow * rounded * scale.clamp_min(2.0**-127)


_SEVEN = torch.zeros(1, 32)
_SEVEN[0, :4] = torch.tensor([7.9, -7.0, 2.3, 0.1])

fair_mxfp4 = Exercise(
    "fair_mxfp4",
    title="a four-bit gradient that is right on average",
    points=4,
    reference=_fair,
    hints=(
        "Under the standard's scale the largest number of a block lies between 4 and 8, and what "
        "is above 6 can only be rounded down. By which factor must the numbers shrink?",
        "`scaled = 0.75 * x / scale` stays below 6, so chance is fair for all; afterwards multiply "
        "by 4/3.",
        "Spacing `u = E2M1.spacing(scaled)`, `below = (scaled / u).floor()`, up where `chance < "
        "scaled / u - below`. The scale is `power_below(largest) / 4`, and above zero.",
    ),
    cases={
        "a block with 7.9 and -7": args(_SEVEN, uniform(1, 32)),
        "5 blocks": args(normal(5, 32), uniform(5, 32, seed=1)),
        "blocks of very different size": args(
            normal(3, 32, seed=2) * torch.tensor([[1e-20], [1.0], [1e20]]), uniform(3, 32, seed=3)
        ),
        "a block of zeros": args(torch.zeros(1, 32), uniform(1, 32)),
        "4, whose scale is 1": args(4 * torch.eye(2, 32), uniform(2, 32, seed=4)),
    },
    mistakes={
        "numbers above 6 times the scale saturate, whatever chance says: shrink by 3/4 first": (
            partial(_fair, shrink=1.0, grow=1.0)
        ),
        "the numbers were shrunk by 3/4 and not brought back: multiply by 4/3 at the end": partial(
            _fair, grow=1.0
        ),
        "this scale makes the largest number 6; MX scales are powers of two": partial(
            _fair, shrink=1.0, grow=1.0, exact_scale=True
        ),
        "this rounds to the nearest; use `chance`, so that the mean is right": partial(
            _fair, nearest=True
        ),
        "up when chance is below the share above the lower neighbour; yours does the opposite": (
            partial(_fair, upside_down=True)
        ),
        "up is towards plus infinity, for a negative number too: take the floor of the number "
        "itself, not of its size": partial(_fair, by_size=True),
        "the scale belongs to the numbers as they are: shrink them after it was found": partial(
            _fair, shrunk_first=True
        ),
    },
)
