"""Checks of the exercises of chapters/04_architecture/03_activations.ipynb."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.answers.measured import differentiates
from llmlib.teaching.authoring import Exercise, args, expect, normal

NOTEBOOK = "04_architecture/03_activations"

# The width at which a gated layer has the plain layer's parameters

gated_width = Exercise(
    "matched_width",
    title="the width of a gated layer at equal parameters",
    reference=lambda d_model, multiple: -(-8 * d_model // (3 * multiple)) * multiple,
    hints=(
        "The plain layer has 2 matrices of D by 4 D; the gated one has 3 of D by F.",
        "3 D F = 8 D^2 gives F = 8 D / 3. The result is a whole number of multiples, rounded up.",
        "Rounding up with whole numbers: `-(-a // b)` is the ceiling of a / b.",
    ),
    cases={
        "D = 96, where 8 D / 3 = 256 is a multiple of 32": args(96, 32),
        "D = 4096 in multiples of 256, LLaMA 7B's": args(4096, 256),
        "D = 101 in multiples of 1: 269 1/3 is rounded up": args(101, 1),
        "8 D / 3 just above a multiple, and well below one": [args(97, 256), args(100, 7)],
        "8 D / 3 = 32, 96 and 160, odd multiples of 32": [args(d, 32) for d in (12, 36, 60)],
        "D = 1 and D = 2": [args(1, 1), args(2, 1), args(1, 8)],
    },
    mistakes={
        "4 D is the plain layer's width; "
        "with a third matrix it must shrink by 2 / 3": lambda d, n: -(-4 * d // n) * n,
        "you rounded to the nearest multiple, that is, rounded down here: have at least as many "
        "parameters": lambda d, n: round(8 * d / (3 * n)) * n,
        "an exact multiple is the width already: you added one more": (
            lambda d, n: (8 * d // (3 * n) + 1) * n
        ),
        "you rounded down: have at least as many parameters": lambda d, n: 8 * d // (3 * n) * n,
        "8 D / 3 is right but must be rounded up to the multiple, "
        "which hardware likes": lambda d, n: -(-8 * d // 3),
        "you divided once too often: 2/3 of 4 D is 8 D / 3": lambda d, n: -(-2 * d // (3 * n)) * n,
    },
)


# A gated feed-forward layer


def _gated(
    x: Tensor, gate: Tensor, up: Tensor, down: Tensor, by: Callable[[Tensor], Tensor] = F.silu
) -> Tensor:
    return F.linear(by(F.linear(x, gate)) * F.linear(x, up), down)


def _layer(width: int, d_ff: int) -> tuple[Tensor, Tensor, Tensor]:
    return normal(d_ff, width), normal(d_ff, width, seed=1), normal(width, d_ff, seed=2)


gated = Exercise(
    "gated_feedforward",
    title="a SwiGLU feed-forward layer",
    points=2,
    reference=_gated,
    hints=(
        "Two projections of the same x: one becomes the gate, the other the values.",
        "swish(g) = g * sigmoid(g). Only the gate goes through it.",
        "`(swish(x @ gate.T) * (x @ up.T)) @ down.T`",
    ),
    cases={
        "3 tokens, D = F = 4, where a transposed matrix has the right shape": args(
            normal(3, 4, seed=3), *_layer(4, 4)
        ),
        "2 texts of 5 tokens, D = 7, F = 11": args(normal(2, 5, 7, seed=3), *_layer(7, 11)),
        "gates of -200 and 200": args(
            torch.tensor([[200.0, -200.0]]), torch.eye(2), torch.diag(torch.ones(2)), torch.eye(2)
        ),
    },
    mistakes={
        "the non-linearity belongs to the gate; you applied it to the values": (
            lambda x, g, u, d: _gated(x, u, g, d)
        ),
        "this gates by the sigmoid, the first GLU; "
        "SwiGLU gates by swish(g) = g sigmoid(g)": partial(_gated, by=torch.sigmoid),
        "this is GeGLU: the gate goes through swish, not GeLU": partial(_gated, by=F.gelu),
        "gate and values are multiplied, not added": (
            lambda x, g, u, d: (F.silu(x @ g.mT) + x @ u.mT) @ d.mT
        ),
        "both went through swish; the values stay as they are": (
            lambda x, g, u, d: (F.silu(x @ g.mT) * F.silu(x @ u.mT)) @ d.mT
        ),
        "matrices are stored [out, in]: multiply by their transposes": (
            lambda x, g, u, d: _gated(x, g.mT, u.mT, d.mT)
        ),
    },
)


# The gradient of SwiGLU


def _swiglu_backward(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    s = gate.sigmoid()
    return grad_y * values * s * (1 + gate * (1 - s)), grad_y * gate * s


def _second_term(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    s = gate.sigmoid()
    return grad_y * values * gate * s * (1 - s), grad_y * F.silu(gate)


def _bare_exp(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    e = (-gate).exp()
    slope = (1 + e + gate * e) / (1 + e).square()
    return grad_y * values * slope, grad_y * gate / (1 + e)


def _by_torch(grad_y: Tensor, gate: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    leaves = [gate.detach().requires_grad_(), values.detach().requires_grad_()]
    with torch.enable_grad():
        return torch.autograd.grad(F.silu(leaves[0]) * leaves[1], leaves, grad_y)


_BY_TORCH = "the result is right, but torch differentiated for you; write the gradient out by hand"
_BATCH = normal(2, 5, 7), 3 * normal(2, 5, 7, seed=1), normal(2, 5, 7, seed=2)

swiglu_gradient = Exercise(
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
        "gates of -2, 0 and 3": args(
            torch.tensor([1.0, 2, -1]), torch.tensor([-2.0, 0, 3]), torch.tensor([1.0, 5, 0.5])
        ),
        "a batch": args(*_BATCH),
        "gates of -200 and 200, where exp overflows": args(
            torch.ones(2), torch.tensor([-200.0, 200.0]), torch.tensor([3.0, 5.0])
        ),
        "no automatic differentiation": lambda f: expect(not differentiates(f, *_BATCH), _BY_TORCH),
    },
    mistakes={
        "the gate's derivative is only the sigmoid; the product rule adds g s (1 - s)": (
            lambda dy, g, u: (dy * u * g.sigmoid(), dy * F.silu(g))
        ),
        "the gate's derivative lacks the first term of the product rule, sigmoid(g)": _second_term,
        "the two results are exchanged: the gate's gradient comes first": (
            lambda *inputs: _swiglu_backward(*inputs)[::-1]
        ),
        "multiply by grad_y, the gradient that arrives": (
            lambda dy, g, u: _swiglu_backward(torch.ones_like(dy), g, u)
        ),
        "the gate's gradient also holds the values: y is a product of the two": (
            lambda dy, g, u: _swiglu_backward(dy, g, torch.ones_like(u))
        ),
        "exp overflows for large negative gates: use torch.sigmoid, which does not": _bare_exp,
        _BY_TORCH: _by_torch,
    },
)
