"""Linear layers whose three matrix products see numbers of few bits, forward and backward."""

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from typing_extensions import override

from llmlib.training.formats.blocks import BlockFormat, quantize
from llmlib.training.formats.elements import ElementFormat
from llmlib.training.formats.rounding import round_stochastically, round_to_nearest

Format = ElementFormat | BlockFormat
HADAMARD_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class ProductRecipe:
    """In which formats a linear layer multiplies.

    References:
        Micikevicius et al. (2022), FP8 Formats for Deep Learning, section 3; NVIDIA (2025),
        Pretraining Large Language Models with NVFP4, section 4.
    """

    operands: Format
    """Format of inputs and weights, in all three products."""
    gradients: Format
    """Format of the gradient of the output, in both backward products."""
    results: ElementFormat | None = None
    """Format that products are stored in (sums are kept in float32); None: float32."""
    stochastic: bool = False
    """Round the gradients by chance, inputs and weights never."""
    hadamard: bool = False
    """Turn both operands of the weight's gradient along the tokens: outliers are spread."""


def fake_quantize(
    x: Float[Tensor, "..."], form: Format, *, stochastic: bool = False
) -> Float[Tensor, "..."]:
    """Return the float32 numbers that a tensor becomes in a format.

    Elements without a scale do not saturate: float16 overflows to infinity as it does in hardware.

    Example:
        >>> from llmlib.training.formats.blocks import MXFP4
        >>> from llmlib.training.formats.elements import FLOAT16
        >>> fake_quantize(torch.tensor([70000.0, 1e-8]), FLOAT16)
        tensor([inf, 0.])
        >>> fake_quantize(torch.tensor([70000.0, 1e-8]), MXFP4)
        tensor([65536.,     0.])
    """
    if isinstance(form, BlockFormat):
        return quantize(x, form, stochastic=stochastic).dequantize()
    if stochastic:
        return round_stochastically(x, form, saturate=False)
    return round_to_nearest(x, form, saturate=False)


def hadamard(size: int) -> Float[Tensor, "size size"]:
    r"""Return Sylvester's matrix of $\pm 1/\sqrt{\text{size}}$; it is its own inverse.

    Raises:
        ValueError: When the size is not a power of two.

    Example:
        >>> hadamard(2)
        tensor([[ 0.7071,  0.7071],
                [ 0.7071, -0.7071]])
    """
    if size < 1 or size & (size - 1):
        raise ValueError(f"size={size} must be a power of two")
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / size**0.5


class LowPrecisionLinear(nn.Linear):
    r"""A linear layer that multiplies in few bits and keeps its parameters in float32.

    With the quantizer q, always along the axis that is summed over:
    $y = q(x)\,q(W)^\top$, $\;\partial_x = q(\partial_y)\,q(W^\top)^\top$,
    $\;\partial_W = q(\partial_y^\top)\,q(x^\top)^\top$. The quantizers count as the identity in the
    backward pass (straight through). A weight is quantized along its rows forward and along its
    columns backward, which in a block format are not quite the same numbers.

    Args:
        linear: The layer whose parameters it takes over.
    """

    def __init__(self, linear: nn.Linear, recipe: ProductRecipe) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.recipe = recipe

    @override
    def forward(self, input: Float[Tensor, "*rows Din"]) -> Float[Tensor, "*rows Dout"]:
        out = _Products.apply(input, self.weight, self.recipe)
        return out if self.bias is None else out + self.bias


def lower_precision(
    model: nn.Module, recipe: ProductRecipe, *, keep: Collection[str] = ()
) -> nn.Module:
    """Let a model's linear layers multiply in few bits, in place; embeddings and norms stay.

    The output matrix is left alone where it is the embedding, as in every model with tied weights.

    Args:
        keep: Names of layers that stay in full precision, with all that is inside them.

    Returns:
        The model.

    Raises:
        ValueError: When a name in `keep` is not a module of the model, or the model is itself a
            linear layer, which cannot be replaced in place.

    Example:
        >>> from llmlib.training.formats.blocks import MXFP8
        >>> model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
        >>> recipe = ProductRecipe(operands=MXFP8, gradients=MXFP8)
        >>> [type(layer).__name__ for layer in lower_precision(model, recipe, keep=["1"])]
        ['LowPrecisionLinear', 'Linear']
    """
    # A layer that stands in two places is to be one layer in both.
    modules = dict(model.named_modules(remove_duplicate=False))
    lowered: dict[nn.Module, LowPrecisionLinear] = {}
    if unknown := sorted(set(keep) - set(modules)):
        raise ValueError(f"keep={unknown} is not in the model: its modules are {list(modules)[1:]}")
    kept = {
        module
        for name, module in modules.items()
        if any(name == one or name.startswith(f"{one}.") for one in keep)
    }
    for name, module in modules.items():
        if type(module) is nn.Linear and module not in kept:
            if not name:
                raise ValueError("the model is itself one linear layer: use LowPrecisionLinear")
            parent, _, own = name.rpartition(".")
            if module not in lowered:
                lowered[module] = LowPrecisionLinear(module, recipe)
            setattr(modules[parent], own, lowered[module])
    return model


def _rows(x: Float[Tensor, "*rows n"]) -> Float[Tensor, "all n"]:
    """Put rows under each other, however many axes they have: none and one row, too."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _product(
    a: Float[Tensor, "n sum"], b: Float[Tensor, "m sum"], results: ElementFormat | None
) -> Float[Tensor, "n m"]:
    with torch.autocast(a.device.type, enabled=False):  # which would round both operands again
        out = a @ b.mT
    return out if results is None else round_to_nearest(out, results, saturate=False)


def _turned(x: Float[Tensor, "n sum"], signs: Float[Tensor, " size"]) -> Float[Tensor, "n padded"]:
    """Multiply runs of the last axis with a Hadamard matrix whose rows have random signs.

    It is orthogonal, so a product of two operands that were turned alike is what it was.
    """
    size = len(signs)
    runs = F.pad(x, (0, -x.shape[-1] % size)).unflatten(-1, (-1, size))
    return ((runs * signs) @ hadamard(size).to(x)).flatten(-2)


class _Products(torch.autograd.Function):
    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, weight: Tensor, recipe: ProductRecipe) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.recipe = recipe
        rows = _rows(x)
        form = recipe.operands
        out = _product(fake_quantize(rows, form), fake_quantize(weight, form), recipe.results)
        return out.view(*x.shape[:-1], len(weight))

    @staticmethod
    @override
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        recipe: ProductRecipe = ctx.recipe
        gradient, rows = _rows(grad_outputs[0]), _rows(x)
        to_input = to_weight = None
        if ctx.needs_input_grad[0]:
            to_input = _product(
                fake_quantize(gradient, recipe.gradients, stochastic=recipe.stochastic),
                fake_quantize(weight.mT, recipe.operands),
                recipe.results,
            ).view_as(x)
        if ctx.needs_input_grad[1]:
            by_token, columns = gradient.mT, rows.mT
            if recipe.hadamard:
                signs = torch.randint(2, (HADAMARD_SIZE,), device=x.device).to(x) * 2 - 1
                by_token, columns = _turned(by_token, signs), _turned(columns, signs)
            to_weight = _product(
                fake_quantize(by_token, recipe.gradients, stochastic=recipe.stochastic),
                fake_quantize(columns, recipe.operands),
                recipe.results,
            )
        return to_input, to_weight, None
