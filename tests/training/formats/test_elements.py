"""Codes, bit by bit, beside ml_dtypes; and rounding by chance."""

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor

from llmlib.training.formats.elements import (
    BFLOAT16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    FLOAT16,
    ElementFormat,
    decode_e8m0,
    encode_e8m0,
    power_below,
)
from llmlib.training.formats.rounding import round_stochastically, round_to_nearest

THEIRS = {
    E4M3: ml_dtypes.float8_e4m3fn,
    E5M2: ml_dtypes.float8_e5m2,
    E3M2: ml_dtypes.float6_e3m2fn,
    E2M3: ml_dtypes.float6_e2m3fn,
    E2M1: ml_dtypes.float4_e2m1fn,
    BFLOAT16: ml_dtypes.bfloat16,
    FLOAT16: np.float16,
}
FORMATS = pytest.mark.parametrize("form", THEIRS, ids=lambda form: form.name)
SMALL = pytest.mark.parametrize("form", [E4M3, E5M2, E3M2, E2M3, E2M1], ids=lambda f: f.name)


def every(dtype: torch.dtype) -> Tensor:
    """All finite numbers of a 16-bit type, in float32."""
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).float()
    return x[x.isfinite()]


def their_codes(x: Tensor, form: ElementFormat) -> Tensor:
    with np.errstate(all="ignore"):
        found = x.numpy().astype(THEIRS[form])
    return torch.from_numpy(found.view(np.uint8 if form.bits <= 8 else np.int16)).int() & (
        (1 << form.bits) - 1
    )


@pytest.mark.covers("train.number-formats")
@FORMATS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_codes_of_every_half_are_ml_dtypes(form: ElementFormat, dtype: torch.dtype) -> None:
    x = every(dtype)
    ours = form.encode(round_to_nearest(x, form, saturate=False)).int()
    assert len(x) in (63_488, 65_280) and torch.equal(ours, their_codes(x, form))


@FORMATS
def test_codes_of_float32_numbers_are_ml_dtypes(form: ElementFormat) -> None:
    """Midpoints, their float32 neighbours, and random bits: halves hold none of the former."""
    numbers = every(torch.float16 if form.bits > 8 else torch.bfloat16)
    numbers = round_to_nearest(numbers, form).unique()
    middles = (numbers[1:].double() + numbers[:-1].double()).div(2).float()
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (100_003,), generator=generator).int()
    any_float = bits.view(torch.float32)
    x = torch.cat([
        middles,
        torch.nextafter(middles, torch.tensor(torch.inf)),
        torch.nextafter(middles, torch.tensor(-torch.inf)),
        any_float[any_float.isfinite()],
    ])  # fmt: skip
    ours = form.encode(round_to_nearest(x, form, saturate=False)).int()
    assert torch.equal(ours, their_codes(x, form))


@pytest.mark.covers("train.number-formats")
@SMALL
def test_every_code_means_what_ml_dtypes_says(form: ElementFormat) -> None:
    codes = torch.arange(2**form.bits, dtype=torch.uint8)
    ours = form.decode(codes)
    theirs = torch.from_numpy(codes.numpy().view(THEIRS[form]).astype(np.float32))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    numbers = ours[~ours.isnan()]
    assert torch.equal(form.encode(numbers), codes[~ours.isnan()])  # minus zero too
    assert form.largest == numbers[numbers.isfinite()].max()
    assert form.smallest == numbers[numbers > 0].min()


@pytest.mark.parametrize("form", [FLOAT16, BFLOAT16], ids=lambda form: form.name)
def test_sixteen_bits_are_torchs(form: ElementFormat) -> None:
    dtype = torch.float16 if form is FLOAT16 else torch.bfloat16
    codes = torch.arange(2**16, dtype=torch.int32)
    theirs = codes.to(torch.int16).view(dtype).float()
    torch.testing.assert_close(form.decode(codes), theirs, rtol=0, atol=0, equal_nan=True)
    assert form.largest == torch.finfo(dtype).max
    assert form.smallest_normal == torch.finfo(dtype).tiny


def test_the_published_numbers() -> None:
    """Table 1 of Micikevicius et al. (2022); table 2 of the Microscaling standard."""
    assert (E4M3.largest, E4M3.smallest_normal, E4M3.smallest) == (448, 2**-6, 2**-9)
    assert (E5M2.largest, E5M2.smallest_normal, E5M2.smallest) == (57_344, 2**-14, 2**-16)
    assert (E3M2.largest, E2M3.largest, E2M1.largest) == (28, 7.5, 6)
    assert [form.top_exponent for form in (E4M3, E5M2, E3M2, E2M3, E2M1)] == [8, 15, 4, 2, 2]
    sizes = E2M1.decode(torch.arange(8, dtype=torch.uint8))
    assert sizes.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("form", "saturated", "beyond"),
    [(E4M3, 448.0, 0x7F), (E5M2, 57_344.0, 0x7C), (E2M1, 6.0, 0x7), (E3M2, 28.0, 0x1F)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_overflow_saturates_or_shows(form: ElementFormat, saturated: float, beyond: int) -> None:
    x = torch.tensor([1e30, -1e30, torch.inf, -torch.inf])
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert torch.equal(round_to_nearest(x, form), saturated * signs)
    sign_bit = 1 << form.bits - 1
    codes = form.encode(round_to_nearest(x, form, saturate=False))
    assert codes.tolist() == [beyond, beyond + sign_bit] * 2


@FORMATS
@pytest.mark.parametrize("saturate", [False, True])
def test_nan_stays_nan_and_has_a_code_where_there_is_one(
    form: ElementFormat, saturate: bool
) -> None:
    x = round_to_nearest(torch.tensor([torch.nan, 1.0]), form, saturate=saturate)
    assert x[0].isnan() and x[1] == 1
    if form.special == "none":
        with pytest.raises(ValueError, match=f"{form.name} has no nan"):
            form.encode(x)
    else:
        assert form.decode(form.encode(x))[0].isnan()


def test_what_is_not_the_formats_is_refused() -> None:
    for wrong in (1.06, 480.0, 2.0**-10, torch.inf):
        with pytest.raises(ValueError, match="E4M3 has no"):
            E4M3.encode(torch.tensor([1.0, wrong]))
    with pytest.raises(ValueError, match="codes from 0 to 15"):
        E2M1.decode(torch.tensor([16], dtype=torch.uint8))


def test_powers_below_are_exact_at_every_edge() -> None:
    exponents = torch.arange(-126, 128)
    powers = torch.ldexp(torch.ones(254, dtype=torch.float64), exponents).float()
    below = torch.nextafter(powers, torch.zeros(()))
    assert torch.equal(power_below(powers), powers)
    assert torch.equal(power_below(-below)[1:], powers[:-1])
    assert power_below(below)[0] == 0  # subnormal


def test_shared_scales_are_ml_dtypes() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    theirs = torch.from_numpy(codes.numpy().view(ml_dtypes.float8_e8m0fnu).astype(np.float32))
    ours = decode_e8m0(codes)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(encode_e8m0(ours), codes)
    for wrong in (0.0, 1.5, -2.0, torch.inf, 2.0**-128):
        with pytest.raises(ValueError, match="E8M0 has no"):
            encode_e8m0(torch.tensor([wrong]))


def neighbours(x: float, form: ElementFormat) -> tuple[float, float]:
    numbers = form.decode(torch.arange(2**form.bits, dtype=torch.uint8))
    numbers = numbers[numbers.isfinite()].double()
    return numbers[numbers <= x].max().item(), numbers[numbers >= x].min().item()


@pytest.mark.covers("train.number-formats")
@SMALL
@pytest.mark.parametrize("share", [1 / 37, 0.5, 30 / 37])
def test_chance_takes_two_neighbours_and_is_right_on_average(
    form: ElementFormat, share: float
) -> None:
    """In the middle of a binade, across its edge, among subnormals, and below zero."""
    draws = 40_009
    generator = torch.Generator().manual_seed(11)
    for low in (1.0, 2 - 2.0**-form.mantissa_bits, form.smallest, 0.0, -form.smallest_normal):
        low, high = neighbours(low + 1e-9, form)
        x = low + share * (high - low)
        found = round_stochastically(torch.full((draws,), x), form, generator=generator).double()
        assert set(found.unique().tolist()) == {low, high}
        deviation = (high - low) * (share * (1 - share) / draws) ** 0.5
        assert abs(found.mean().item() - x) < 4 * deviation


@SMALL
def test_chance_moves_no_number_of_the_format(form: ElementFormat) -> None:
    numbers = form.decode(torch.arange(2**form.bits, dtype=torch.uint8))
    numbers = numbers[numbers.isfinite()].repeat(1009, 1)
    generator = torch.Generator().manual_seed(2)
    assert torch.equal(round_stochastically(numbers, form, generator=generator), numbers)


def test_rounding_by_chance_keeps_the_sign_of_zero():
    x = torch.cat([torch.full((97,), -0.01), torch.tensor([-0.0])])
    found = round_stochastically(x, E4M3)
    assert found[-1] == 0 and found.signbit().all()


def test_a_number_is_not_moved_by_the_largest_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 1 - 2.0**-24  # the largest that torch.rand gives
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(tuple(shape), largest))
    x = torch.tensor([15.0, 1.875, -15.0])  # 15 steps of their spacing
    assert torch.equal(round_stochastically(x, E4M3), x)


def test_chance_overflows_as_the_nearest_does() -> None:
    x = torch.tensor([1e9, -1e9, torch.inf, torch.nan])
    found = round_stochastically(x, E4M3)
    assert found[:3].tolist() == [448, -448, 448] and found[3].isnan()
    assert round_stochastically(x, E5M2, saturate=False)[:2].tolist() == [torch.inf, -torch.inf]


@pytest.mark.parametrize("form", [FLOAT16, BFLOAT16], ids=lambda form: form.name)
def test_the_processors_own_rounding_is_the_arithmetic(form: ElementFormat) -> None:
    """Without saturation 16 bits are rounded natively, with it by spacings."""
    generator = torch.Generator().manual_seed(5)
    bits = torch.randint(-(2**31), 2**31, (100_003,), generator=generator).int()
    x = bits.view(torch.float32)
    x = torch.cat([x[x.isfinite()], every(torch.float16), every(torch.float16) * 1.0009766])
    native = round_to_nearest(x, form, saturate=False)
    arithmetic = round_to_nearest(x, form)
    fits = native.isfinite()
    assert fits.float().mean() > 0.05 and torch.equal(native[fits], arithmetic[fits])
    assert (arithmetic[~fits].abs() == form.largest).all()
