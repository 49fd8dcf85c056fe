"""Blocks, worked by hand and at their edges."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from llmlib.training.formats.blocks import (
    FP8_GRADIENT,
    FP8_ROW,
    FP8_TENSOR,
    MXFP4,
    MXFP8,
    NVFP4,
    BlockFormat,
    quantize,
)
from llmlib.training.formats.elements import E4M3, E5M2

ALL = (MXFP8, MXFP4, NVFP4, FP8_ROW, FP8_TENSOR, FP8_GRADIENT, replace(MXFP8, element=E5M2))
EACH = pytest.mark.parametrize("form", ALL, ids=lambda form: f"{form.name}-{form.element.name}")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.covers("train.number-formats")
def test_mxfp4_by_hand() -> None:
    """Largest 10: floor(log2 10) = 3, less 2 is 1, so X = 2. The second block: 0.3 gives 2^-4."""
    x = torch.zeros(40)
    x[:7] = torch.tensor([10.0, -7.0, 5.0, 1.0, 0.6, 0.4, -2.6])
    x[32:35] = torch.tensor([0.3, 0.14, -0.02])
    found = quantize(x, MXFP4)
    assert found.scales.flatten().tolist() == [2.0, 2.0**-4]
    assert found.scale_codes().flatten().tolist() == [128, 123]
    # Divided by 2: 5, -3.5, 2.5, 0.5, 0.3, 0.2, -1.3; 5 and 2.5 and 3.5 are ties, to even codes.
    assert found.elements[0, :7].tolist() == [4, -4, 2, 0.5, 0.5, 0, -1.5]
    assert found.codes()[0, :7].tolist() == [6, 14, 4, 1, 1, 0, 11]
    # Divided by 1/16: 4.8, 2.24, -0.32.
    assert found.elements[1, :3].tolist() == [4, 2, -0.5]
    back = found.dequantize()
    assert back.shape == x.shape
    assert back[[0, 1, 2, 6, 32, 33, 34]].tolist() == [8, -8, 4, -3, 0.25, 0.125, -0.03125]


@pytest.mark.covers("train.number-formats")
def test_mxfp8_by_hand() -> None:
    """Largest 1,000: floor(log2) = 9, less 8 is 1: X = 2, and 500 saturates at 448."""
    x = torch.zeros(32)
    x[:4] = torch.tensor([1000.0, 33.0, -17.0, 1e-3])
    found = quantize(x, MXFP8)
    assert found.scales.item() == 2.0 and found.scale_codes().item() == 128
    # Divided by 2: 500, 16.5 (a tie of 16 and 18? no: the spacing is 2), -8.5 (a tie to 8), 0.0005.
    assert found.elements[0, :4].tolist() == [448, 16, -8, 0]
    assert found.codes()[0, :4].tolist() == [0x7E, 0x58, 0xD0, 0]
    assert found.dequantize()[:4].tolist() == [896, 32, -16, 0]


@pytest.mark.covers("train.number-formats")
def test_nvfp4_by_hand() -> None:
    """A = 2,688 makes the tensor's scale 1. Blocks: 2,688 / 6 = 448; 13 / 6 = 2.1667 is 2.25."""
    x = torch.zeros(32)
    x[:3] = torch.tensor([2688.0, -600.0, 100.0])
    x[16:20] = torch.tensor([13.0, -4.5, 3.3, 1.0])
    found = quantize(x, NVFP4)
    assert found.tensor_scale == 1
    assert found.scales.flatten().tolist() == [448, 2.25]
    assert found.scale_codes().flatten().tolist() == [0x7E, 0x41]
    # Divided by 448: 6, -1.34, 0.22; by 2.25: 5.78, -2, 1.47, 0.44.
    assert found.elements[0, :3].tolist() == [6, -1.5, 0]
    assert found.elements[1, :4].tolist() == [6, -2, 1.5, 0.5]
    assert found.dequantize()[[0, 1, 16, 17, 18]].tolist() == [2688, -672, 13.5, -4.5, 3.375]


def test_nvfp4_has_a_scale_of_the_tensor() -> None:
    x = normal(5, 48)
    once, twice = quantize(x, NVFP4), quantize(x * 2.0**-40, NVFP4)
    assert once.tensor_scale == x.abs().max() / 2688
    assert torch.equal(once.codes(), twice.codes())
    assert torch.equal(once.scale_codes(), twice.scale_codes())
    assert torch.equal(once.dequantize() * 2.0**-40, twice.dequantize())
    assert once.scales.max() == 448


def test_fp8_by_rows_and_by_tensors() -> None:
    x = torch.tensor([[448.0, 1.0, -3.3], [4.48, 0.1, 0.0]])
    rows = quantize(x, FP8_ROW)
    torch.testing.assert_close(rows.scales.flatten(), torch.tensor([1.0, 0.01]))
    assert rows.elements[0, 0].tolist() == [448, 1, -3.25]
    assert rows.elements[1, 0].tolist() == [448, 10, 0]
    tensor = quantize(x, FP8_TENSOR)
    assert tensor.scales.shape == (1, 1) and tensor.scales.item() == 1
    assert tensor.elements.tolist() == [[448, 1, -3.25, 4.5, 0.1015625, 0]]
    assert quantize(x, FP8_GRADIENT).elements[0, 0] == 57_344


def test_bits_of_an_element() -> None:
    bits = [form.bits_per_element for form in (MXFP8, MXFP4, NVFP4, FP8_ROW, FP8_TENSOR)]
    assert bits == [8.25, 4.25, 4.5, 8, 8]
    deepseek = BlockFormat(name="1 x 128", element=E4M3, size=128, scale="float32")
    assert deepseek.bits_per_element == 8.25
    found = quantize(normal(3, 96), MXFP4)
    assert found.codes().numel() * 4 + found.scale_codes().numel() * 8 == 3 * 96 * 4.25


@EACH
@pytest.mark.parametrize("length", [1, 13, 31, 37, 101])
def test_a_cut_block_is_as_if_zeros_followed(form: BlockFormat, length: int) -> None:
    x = normal(3, length)
    wide = torch.cat([x, torch.zeros(3, 128 - length)], dim=1)
    found = quantize(x, form)
    assert found.shape == x.shape
    assert torch.equal(found.dequantize(), quantize(wide, form).dequantize()[:, :length])


@EACH
def test_zeros_stay_zeros(form: BlockFormat) -> None:
    x = normal(3, 64)
    x[1] = 0
    back = quantize(x, form).dequantize()
    assert not back[1].any() and back[0].any()
    nothing = quantize(torch.zeros(2, 37), form)
    assert not nothing.dequantize().any()
    assert nothing.codes().unique().tolist() == [0]
    nothing.scale_codes()
    assert quantize(torch.zeros(3, 0), form).dequantize().shape == (3, 0)


@EACH
def test_twice_is_once(form: BlockFormat) -> None:
    """What the format has comes back, unless its own largest was rounded down or up a binade."""
    back = quantize(normal(7, 96), form).dequantize()
    again = quantize(back, form).dequantize()
    torch.testing.assert_close(again, back, rtol=0.08 if form is NVFP4 else 1e-6, atol=0)


@EACH
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_spoils_its_block_alone(form: BlockFormat, bad: float) -> None:
    x = normal(2, 96)
    sound = quantize(x, form).dequantize()
    x[0, 5] = bad
    found = quantize(x, form)
    back = found.dequantize()
    width = {"tensor": 96, "row": 96}.get(str(form.size)) or int(form.size)
    assert back[0, :width].isnan().all()
    if form.size == "tensor":
        assert back.isnan().all()
    else:
        assert torch.equal(back[0, width:], sound[0, width:])
        assert torch.equal(back[1], sound[1])
    assert found.scale_codes().shape == found.scales.shape
    assert not form.element.decode(found.codes())[found.scales[..., 0].isnan()].any()


@pytest.mark.parametrize("form", [MXFP8, MXFP4], ids=lambda form: form.name)
@pytest.mark.parametrize("exponent", [-110, -1, 0, 1, 90])
def test_scales_change_at_the_edges_of_binades(form: BlockFormat, exponent: int) -> None:
    edge = 2.0**exponent
    below = torch.nextafter(torch.tensor(edge), torch.zeros(()))
    at, under = (quantize(torch.tensor([x]), form) for x in (edge, below.item()))
    assert at.scales.item() == 2.0 ** (exponent - form.element.top_exponent)
    assert under.scales.item() == at.scales.item() / 2
    assert at.dequantize().item() == edge
    # Just under 2^(emax + 1) elements saturate: 448 of 512, 6 of 8.
    assert under.elements.max().item() == form.element.largest


@EACH
def test_the_smallest_and_the_largest_of_float32(form: BlockFormat) -> None:
    largest = torch.finfo(torch.float32).max
    back = quantize(torch.tensor([largest, -largest]), form).dequantize()
    assert back.isfinite().all() and (back[0] > 0.7 * largest) and back[1] == -back[0]
    for tiny in (2.0**-149, 2.0**-127, 2.0**-126):
        back = quantize(torch.tensor([tiny, -tiny, 0.0]), form).dequantize()
        assert back.isfinite().all() and 0 <= back[0].item() <= 2 * tiny


@EACH
def test_errors_are_bounded_by_half_a_spacing(form: BlockFormat) -> None:
    decades = 2 if form is NVFP4 else 30  # below its largest block by 10^5 NVFP4 has zeros
    x = normal(11, 192, seed=3) * torch.logspace(-decades, decades, 11)[:, None]
    found = quantize(x, form)
    shared = (found.scales * found.tensor_scale).expand(found.elements.shape)
    exact = x.reshape(found.elements.shape) / shared
    fits = exact.abs() <= form.element.largest
    error = (exact - found.elements).abs()
    assert fits.float().mean() > 0.95
    assert (error <= form.element.spacing(exact) * 0.5 * (1 + 1e-6))[fits].all()


@pytest.mark.parametrize("form", [MXFP8, NVFP4, FP8_ROW], ids=lambda form: form.name)
def test_chance_is_right_on_average(form: BlockFormat) -> None:
    x = normal(96)
    generator = torch.Generator().manual_seed(1)
    draws = quantize(x.repeat(4001, 1), form, stochastic=True, generator=generator).dequantize()
    nearest = quantize(x, form)
    exact = x.view(-1, nearest.elements.shape[-1]) / (nearest.scales * nearest.tensor_scale)
    inside = (exact.abs() <= form.element.largest).flatten()  # what saturates has another mean
    error = (draws.mean(dim=0) - x).abs() / (draws.std(dim=0) / 4001**0.5 + 1e-6)
    assert inside.sum() > 80 and error[inside].max() < 4.5
    biased = (nearest.dequantize() - x).abs()
    assert biased.mean() > 10 * (draws.mean(dim=0) - x)[inside].abs().mean()


def test_a_number_without_an_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="an axis"):
        quantize(torch.tensor(1.0), MXFP8)
