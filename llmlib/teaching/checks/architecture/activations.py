"""Checks of the exercises of chapters/04_architecture/03_activations.ipynb."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/03_activations"


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# The width at which a gated layer has the plain layer's parameters


def _matched_width(d_model: int, multiple: int) -> int:
    return -(-8 * d_model // (3 * multiple)) * multiple


width = Exercise(
    "matched_width",
    title="the width of a gated layer at equal parameters",
    reference=_matched_width,
    hints=(
        "The plain layer has 2 matrices of D by 4 D; the gated one has 3 of D by F.",
        "3 D F = 8 D^2 gives F = 8 D / 3. The result is a whole number of multiples, rounded up.",
        "Rounding up with whole numbers: `-(-a // b)` is the ceiling of a / b.",
    ),
    cases={
        "D = 96, where 8 D / 3 = 256 is a multiple of 32": args(96, 32),
        "D = 4096 in multiples of 256, LLaMA 7B's": args(4096, 256),
        "D = 100 in multiples of 1: rounded up, not down": args(100, 1),
    },
    mistakes={
        (
            "4 D is the plain layer's width; with a third matrix it must shrink by 2 / 3"
        ): lambda d_model, multiple: -(-4 * d_model // multiple) * multiple,
        (
            "this is rounded down: the layer must have at least as many parameters"
        ): lambda d_model, multiple: 8 * d_model // (3 * multiple) * multiple,
        (
            "8 D / 3 is right but must be rounded up to the multiple, which hardware likes"
        ): lambda d_model, multiple: -(-8 * d_model // 3),
        "you divided once too often: F = 2/3 of 4 D, that is 8 D / 3": lambda d_model, multiple: (
            -(-2 * d_model // (3 * multiple)) * multiple
        ),
    },
)


# A gated feed-forward layer


def _gated_feedforward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def _layer(width: int, d_ff: int) -> tuple[Tensor, Tensor, Tensor]:
    return _random(d_ff, width), _random(d_ff, width, seed=1), _random(width, d_ff, seed=2)


gated = Exercise(
    "gated_feedforward",
    title="a SwiGLU feed-forward layer",
    points=2,
    reference=_gated_feedforward,
    hints=(
        "Two projections of the same x: one becomes the gate, the other the values.",
        "swish(g) = g * sigmoid(g). Only the gate goes through it.",
        "`(swish(x @ gate.T) * (x @ up.T)) @ down.T`",
    ),
    cases={
        "3 tokens, D = F = 4, where a transposed matrix has the right shape": args(
            _random(3, 4, seed=3), *_layer(4, 4)
        ),
        "2 texts of 5 tokens, D = 7, F = 11": args(_random(2, 5, 7, seed=3), *_layer(7, 11)),
    },
    mistakes={
        (
            "the non-linearity belongs to the gate; you applied it to the values"
        ): lambda x, gate, up, down: _gated_feedforward(x, up, gate, down),
        (
            "this gates by the sigmoid, the first GLU; SwiGLU gates by swish(g) = g sigmoid(g)"
        ): lambda x, gate, up, down: ((x @ gate.mT).sigmoid() * (x @ up.mT)) @ down.mT,
        "this is GeGLU: the gate goes through swish, not GeLU": lambda x, gate, up, down: (
            (F.gelu(x @ gate.mT) * (x @ up.mT)) @ down.mT
        ),
        "gate and values are multiplied, not added": lambda x, gate, up, down: (
            (F.silu(x @ gate.mT) + x @ up.mT) @ down.mT
        ),
        "both went through swish; the values stay as they are": lambda x, gate, up, down: (
            (F.silu(x @ gate.mT) * F.silu(x @ up.mT)) @ down.mT
        ),
        "matrices are stored [out, in]: multiply by their transposes": lambda x, gate, up, down: (
            (F.silu(x @ gate) * (x @ up)) @ down
        ),
    },
)


# The gradient of SwiGLU


def _swiglu_backward(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    s = gate.sigmoid()
    return grad_y * values * s * (1 + gate * (1 - s)), grad_y * gate * s


def _gates_of_2(answer: Any) -> None:
    gate = torch.tensor([-2.0, 0.0, 3.0])
    backward.agree(answer, torch.tensor([1.0, 2.0, -1.0]), gate, torch.tensor([1.0, 5.0, 0.5]))


def _second_term(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    s = gate.sigmoid()
    return grad_y * values * gate * s * (1 - s), grad_y * F.silu(gate)


def _exchanged(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    first, second = _swiglu_backward(grad_y, gate, values)
    return second, first


def _values_missing(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    first, second = _swiglu_backward(grad_y, gate, torch.ones_like(values))
    return first, second


def _bare_exp(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    e = (-gate).exp()
    slope = (1 + e + gate * e) / (1 + e).square()
    return grad_y * values * slope, grad_y * gate / (1 + e)


backward = Exercise(
    "swiglu_backward",
    title="the gradient of SwiGLU by hand",
    points=3,
    reference=_swiglu_backward,
    hints=(
        "y = swish(g) u is a product: each factor's gradient holds the other factor.",
        "sigmoid' = s (1 - s), so swish'(g) = s + g s (1 - s) with s = sigmoid(g).",
        "`grad_y * values * s * (1 + gate * (1 - s))` and `grad_y * gate * s`",
    ),
    cases={
        "gates of -2, 0 and 3": _gates_of_2,
        "a batch, random": args(
            _random(2, 5, 7), 3 * _random(2, 5, 7, seed=1), _random(2, 5, 7, seed=2)
        ),
        "gates of -200 and 200, where exp overflows": args(
            torch.ones(2), torch.tensor([-200.0, 200.0]), torch.tensor([3.0, 5.0])
        ),
    },
    mistakes={
        (
            "the gate's derivative is only the sigmoid; the product rule adds g s (1 - s)"
        ): lambda grad_y, gate, values: (grad_y * values * gate.sigmoid(), grad_y * F.silu(gate)),
        "the gate's derivative lacks the first term of the product rule, sigmoid(g)": _second_term,
        "the two results are exchanged: the gate's gradient comes first": _exchanged,
        "multiply by grad_y, the gradient that arrives": lambda grad_y, gate, values: (
            _swiglu_backward(torch.ones_like(grad_y), gate, values)
        ),
        "the gate's gradient also holds the values: y is a product of the two": _values_missing,
        "exp overflows for large negative gates: use torch.sigmoid, which does not": _bare_exp,
    },
)
