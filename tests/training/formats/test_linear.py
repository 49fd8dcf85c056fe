"""Layers that multiply in few bits: what each of the three products sees."""

from dataclasses import replace

import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.training.formats.blocks import FP8_GRADIENT, FP8_ROW, FP8_TENSOR, MXFP4, MXFP8, NVFP4
from llmlib.training.formats.elements import BFLOAT16, FLOAT16
from llmlib.training.formats.linear import (
    LowPrecisionLinear,
    ProductRecipe,
    fake_quantize,
    hadamard,
    lower_precision,
)
from llmlib.training.formats.rounding import round_to_nearest

RECIPES = {
    "float16": ProductRecipe(operands=FLOAT16, gradients=FLOAT16, results=FLOAT16),
    "bfloat16": ProductRecipe(operands=BFLOAT16, gradients=BFLOAT16, results=BFLOAT16),
    "fp8": ProductRecipe(operands=FP8_TENSOR, gradients=FP8_GRADIENT, results=BFLOAT16),
    "mxfp8": ProductRecipe(operands=MXFP8, gradients=MXFP8),
    "mxfp4": ProductRecipe(operands=MXFP4, gradients=MXFP4),
    "nvfp4": ProductRecipe(operands=NVFP4, gradients=NVFP4),
}
EACH = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(d_in: int = 37, d_out: int = 41, bias: bool = True) -> nn.Linear:
    torch.manual_seed(5)
    return nn.Linear(d_in, d_out, bias=bias)


def gradients(
    layer: nn.Linear, x: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    x = x.clone().requires_grad_()
    layer.zero_grad()
    out = layer(x)
    out.backward(upstream.to(out.dtype))
    assert isinstance(x.grad, Tensor) and isinstance(layer.weight.grad, Tensor)
    return (
        out.detach(),
        x.grad,
        layer.weight.grad,
        layer.bias.grad if layer.bias is not None else None,
    )


@pytest.mark.covers("train.number-formats")
@EACH
def test_each_product_quantizes_along_what_it_sums_over(recipe: ProductRecipe) -> None:
    source, x, upstream = linear(), normal(2, 43, 37), normal(2, 43, 41, seed=1) / 50
    out, to_input, to_weight, to_bias = gradients(LowPrecisionLinear(source, recipe), x, upstream)
    rows, above, weight = x.view(86, 37), upstream.view(86, 41), source.weight.detach()

    def product(a: Tensor, b: Tensor, form: object) -> Tensor:  # [n, sum], [m, sum]
        a = fake_quantize(a, form)  # pyright: ignore[reportArgumentType]
        exact = a.double() @ fake_quantize(b, recipe.operands).double().T
        return exact if recipe.results is None else round_to_nearest(exact, recipe.results)

    expected = [
        product(rows, weight, recipe.operands).view(2, 43, 41) + source.bias.detach(),
        product(above, weight.T, recipe.gradients).view(2, 43, 37),
        product(above.T, rows.T, recipe.gradients),
    ]
    # A sum in float32 may fall on the other side of a tie of the results' format.
    rtol = 1e-4 if recipe.results is None else 2.0**-recipe.results.mantissa_bits
    for ours, right in zip((out, to_input, to_weight), expected, strict=True):
        torch.testing.assert_close(ours, right.float(), rtol=rtol, atol=1e-5)
    torch.testing.assert_close(to_bias, above.sum(0))


@pytest.mark.covers("train.mixed-precision")
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_sixteen_bits_are_autocasts(name: str) -> None:
    """The emulation against torch's own kernels, with an overflow that float16 shows."""
    dtype, recipe = getattr(torch, name), RECIPES[name]
    source, x, upstream = linear(bias=False), normal(43, 37), normal(43, 41, seed=1) / 1e4
    upstream[3, 5] = 1e-8
    x[7] = 60_000
    found = gradients(LowPrecisionLinear(source, recipe), x, upstream)
    with torch.autocast("cpu", dtype=dtype):
        theirs = gradients(source, x, upstream)
    assert found[0].isinf().any() == (name == "float16")
    for ours, right in zip(found[:3], theirs[:3], strict=True):
        right = right.float()
        assert torch.equal(ours.isfinite(), right.isfinite())
        torch.testing.assert_close(ours, right, rtol=2.0**-7, atol=1e-7)
        assert (ours == right).float().mean() > 0.98


@EACH
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_numbers_that_all_formats_have_give_the_plain_layers_results(
    recipe: ProductRecipe, stochastic: bool, turned: bool
) -> None:
    """Zeros, and in each block one size alone: even a Hadamard matrix of 16 tokens keeps them."""
    x, upstream = torch.zeros(32, 37), torch.zeros(32, 41)
    x[3], upstream[3], x[19], upstream[19] = 2.0, -2.0, -2.0, 2.0
    source = linear()
    with torch.no_grad():
        source.weight.copy_(2.0 * normal(41, 37).sign())
    plain = gradients(source, x, upstream)
    layer = LowPrecisionLinear(source, replace(recipe, stochastic=stochastic, hadamard=turned))
    for ours, right in zip(gradients(layer, x, upstream), plain, strict=True):
        torch.testing.assert_close(ours, right, rtol=5e-3, atol=1e-5)


@pytest.mark.covers("train.number-formats")
def test_gradients_rounded_by_chance_are_right_on_average() -> None:
    recipe = ProductRecipe(operands=FP8_ROW, gradients=FP8_ROW, stochastic=True)
    source, x, upstream = linear(5, 7), normal(11, 5), normal(11, 7, seed=1)
    layer = LowPrecisionLinear(source, recipe)
    torch.manual_seed(3)
    draws = torch.stack([gradients(layer, x, upstream)[2] for _ in range(199)]).double()
    right = upstream.T @ fake_quantize(x.T, FP8_ROW).T
    off = (draws.mean(0) - right).abs() / (draws.std(0) / 199**0.5)
    assert draws.std(0).min() > 0 and off.max() < 4.5
    nearest = gradients(LowPrecisionLinear(source, replace(recipe, stochastic=False)), x, upstream)
    assert (nearest[2] - right).abs().mean() > 5 * (draws.mean(0) - right).abs().mean()


def test_hadamards_matrix_is_scipys_and_its_own_inverse() -> None:
    for size in (1, 2, 16, 64):
        expected = torch.tensor(scipy.linalg.hadamard(size) / size**0.5).float()
        torch.testing.assert_close(hadamard(size), expected)
        torch.testing.assert_close(hadamard(size) @ hadamard(size), torch.eye(size))
    with pytest.raises(ValueError, match="power of two"):
        hadamard(12)


@pytest.mark.parametrize("seed", range(5))
def test_turning_spreads_outliers_over_a_block(seed: int) -> None:
    """Where every sixteenth token is ten times as large, its MXFP4 block has few digits left."""
    x, upstream = normal(256, 37, seed=seed), normal(256, 41, seed=seed + 7)
    x[::16] *= 10
    right, errors = upstream.T @ x, list[float]()
    for turned in (False, True):
        torch.manual_seed(seed)
        recipe = replace(RECIPES["mxfp4"], hadamard=turned)
        found = gradients(LowPrecisionLinear(linear(), recipe), x, upstream)[2]
        errors.append((found - right).norm().item())
    assert errors[1] < 0.9 * errors[0]


def test_a_transformers_layers_are_replaced_and_its_parameters_are_not() -> None:
    config = ModelConfig(vocab_size=29, d_model=24, n_layers=2, n_heads=3, max_seq_len=13)
    torch.manual_seed(0)
    model = Transformer(config)
    before = dict(model.named_parameters())
    names = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    assert lower_precision(model, RECIPES["nvfp4"], keep=["blocks.1"]) is model
    after = dict(model.named_parameters())
    assert list(before) == list(after)
    assert all(after[name] is before[name] for name in before)
    replaced = [n for n, module in model.named_modules() if isinstance(module, LowPrecisionLinear)]
    assert replaced == [name for name in names if name.startswith("blocks.0.")] != []
    tokens = torch.arange(13).repeat(2, 1)
    model(tokens).logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in after.values())


def test_an_input_without_gradient() -> None:
    layer = LowPrecisionLinear(linear(), RECIPES["mxfp8"])
    layer(normal(3, 37)).sum().backward()
    assert layer.weight.grad is not None
    layer.weight.requires_grad_(False)
    x = normal(3, 37).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="its modules are"):
        lower_precision(nn.Sequential(linear()), RECIPES["fp8"], keep=["1"])


@pytest.mark.parametrize("shape", [(37,), (0, 37), (3, 0, 37)])
@EACH
def test_any_number_of_rows(recipe: ProductRecipe, shape: tuple[int, ...]):
    plain = linear()
    layer = LowPrecisionLinear(plain, replace(recipe, hadamard=True))
    x = normal(*shape).requires_grad_()
    out = layer(x)
    out.sum().backward()
    assert out.shape == plain(x).shape
    assert x.grad is not None and x.grad.shape == shape
    assert layer.weight.grad is not None and layer.weight.grad.isfinite().all()


def test_autocast_does_not_round_the_operands_again():
    layer = LowPrecisionLinear(linear(), ProductRecipe(operands=FP8_ROW, gradients=FP8_GRADIENT))
    x = normal(3, 37)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert torch.equal(found, layer(x))


def test_a_layer_in_two_places_is_one_layer_in_both():
    shared = nn.Linear(5, 5)
    recipe = ProductRecipe(operands=MXFP8, gradients=MXFP8)
    model = lower_precision(nn.Sequential(shared, nn.ReLU(), shared), recipe)
    assert isinstance(model, nn.Sequential)
    assert isinstance(model[0], LowPrecisionLinear) and model[2] is model[0]
    kept = lower_precision(nn.Sequential(shared, nn.ReLU(), shared), recipe, keep=["2"])
    assert isinstance(kept, nn.Sequential)
    assert kept[0] is shared and kept[2] is shared


def test_a_model_that_is_one_layer_cannot_be_replaced_in_place():
    with pytest.raises(ValueError, match="use LowPrecisionLinear"):
        lower_precision(nn.Linear(3, 5), RECIPES["mxfp8"])
