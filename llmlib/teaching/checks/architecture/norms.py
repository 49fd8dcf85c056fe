"""Checks of the exercises of chapters/04_architecture/02_norms.ipynb."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.answers.measured import differentiates
from llmlib.teaching.authoring import Exercise, args, expect, normal

NOTEBOOK = "04_architecture/02_norms"

# LayerNorm


def _centered(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def _variance(x: Tensor, correction: int = 0) -> Tensor:
    return x.var(-1, correction=correction, keepdim=True)


def _from_squares(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True) - x.mean(-1, keepdim=True).square()


layer_norm = Exercise(
    "layer_norm_rows",
    title="LayerNorm from its definition",
    reference=lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, weight, bias, eps),
    hints=(
        "Mean and variance belong to a row: reduce the last axis and keep it, `keepdim=True`.",
        "The variance is the plain mean of the squared deviations, and eps stands under the root.",
        "`centered = x - x.mean(-1, keepdim=True)`, then divide by "
        "`(centered.square().mean(-1, keepdim=True) + eps).sqrt()`.",
    ),
    cases={
        "the row 5, 11, 13, 19": args(
            torch.tensor([[5.0, 11, 13, 19]]), torch.ones(4), torch.zeros(4), 1e-5
        ),
        "weights and biases of their own": args(
            3 + normal(5, 7), normal(7, seed=1), normal(7, seed=2), 1e-5
        ),
        "a batch of 2 texts of 3 tokens, and a large eps": args(
            normal(2, 3, 5), normal(5, seed=1), normal(5, seed=2), 0.5
        ),
        "a row far from zero": args(
            torch.tensor([[7001.0, 7004, 7009, 7014]]), torch.ones(4), torch.zeros(4), 1e-5
        ),
        "a row of equal numbers": args(torch.full((1, 5), 2.0), torch.ones(5), normal(5), 1e-5),
    },
    mistakes={
        "you divided by the variance; its root makes the result's variance 1": (
            lambda x, w, b, eps: w * _centered(x) / (_variance(x) + eps) + b
        ),
        "you took the root twice, as the survey's table prints it: sigma is a root already": (
            lambda x, w, b, eps: w * _centered(x) / (_variance(x) + eps) ** 0.25 + b
        ),
        "torch.var and torch.std divide by D - 1; a norm divides by D: `correction=0`": (
            lambda x, w, b, eps: w * _centered(x) / (_variance(x, correction=1) + eps).sqrt() + b
        ),
        "far from zero the mean of squares less the square of the mean is lost in rounding: "
        "subtract the mean first, then square": (
            lambda x, w, b, eps: w * _centered(x) / (_from_squares(x) + eps).sqrt() + b
        ),
        "this is RMSNorm: subtract the row's mean first": (
            lambda x, w, b, eps: F.rms_norm(x, w.shape, w, eps) + b
        ),
        "eps is added to the standard deviation; it belongs to the variance, under the root": (
            lambda x, w, b, eps: w * _centered(x) / (_variance(x).sqrt() + eps) + b
        ),
        "the rows are normalized, but weight and bias are not applied": (
            lambda x, w, b, eps: F.layer_norm(x, w.shape, eps=eps)
        ),
        "the bias was added before the weight multiplied; it is added last": (
            lambda x, w, b, eps: w * (F.layer_norm(x, w.shape, eps=eps) + b)
        ),
    },
)


# DeepNorm's constants

_MATRICES = ("queries", "keys", "values", "out", "up", "down")


def _deepnorm_start(
    n_layers: int,
    d_model: int,
    d_ff: int,
    *,
    alpha: float | None = None,
    beta: float | None = None,
    small: tuple[str, ...] = _MATRICES[2:],
    power: int = 1,
) -> tuple[float, dict[str, float]]:
    alpha = float((2 * n_layers) ** 0.25) if alpha is None else alpha
    beta = float((8 * n_layers) ** -0.25) if beta is None else beta
    fans = {name: d_model + (d_ff if name in ("up", "down") else d_model) for name in _MATRICES}
    stds = {name: math.sqrt(2 / fan) * (beta if name in small else 1) for name, fan in fans.items()}
    return alpha, {name: std**power for name, std in stds.items()}


deepnorm = Exercise(
    "deepnorm_start",
    title="DeepNorm's constants and initial weights",
    points=2,
    reference=_deepnorm_start,
    hints=(
        "For a decoder alpha is the fourth root of 2 L and beta one over the fourth root of 8 L.",
        "Xavier's standard deviation is sqrt(2 / (fan in + fan out)); for up and down the two fans "
        "are D and F.",
        "beta multiplies it for values, out, up and down, and not for queries and keys.",
    ),
    cases={
        "2 layers: alpha is the root of 2 and beta one half": args(2, 8, 32),
        "100 layers of width 512": args(100, 512, 2048),
    },
    mistakes={
        "alpha must grow with the depth and beta fall; yours are exchanged": lambda n, *sizes: (
            _deepnorm_start(n, *sizes, alpha=(8 * n) ** -0.25, beta=(2 * n) ** 0.25)
        ),
        "these are square roots; DeepNorm takes fourth roots, "
        "because a sublayer has two matrices that share the factor": (
            lambda n, *sizes: _deepnorm_start(n, *sizes, alpha=(2 * n) ** 0.5, beta=(8 * n) ** -0.5)
        ),
        "queries and keys keep Xavier's standard deviation: no beta for them": partial(
            _deepnorm_start, small=_MATRICES
        ),
        "the values' matrix takes beta too: it decides how large attention's output is": partial(
            _deepnorm_start, small=_MATRICES[3:]
        ),
        "these are variances; take their roots": partial(_deepnorm_start, power=2),
    },
)


# The gradient of RMSNorm


_BY_TORCH = "the result is right, but torch differentiated for you; write the gradient out by hand"
_ROWS = normal(5, 7), normal(5, 7, seed=1), normal(7, seed=2), 1e-6


def _rms_norm_backward(grad_y: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_(), weight.detach().requires_grad_()]
    with torch.enable_grad():
        y = F.rms_norm(leaves[0], weight.shape, leaves[1], eps)
    return torch.autograd.grad(y, leaves, grad_y)


def _by_hand(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    eps: float,
    *,
    along: int = 1,
    power: int = 1,
    summed: bool = True,
) -> tuple[Tensor, Tensor]:
    rho = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    z, g = x / rho, grad_y * weight
    grad_x = g - along * z * (g * z).mean(-1, keepdim=True)
    grad_weight = grad_y * z
    return grad_x / rho**power, grad_weight.flatten(0, -2).sum(dim=0) if summed else grad_weight


rms_norm_gradient = Exercise(
    "rms_norm_backward",
    title="the gradient of RMSNorm by hand",
    points=4,
    reference=_by_hand,
    hints=(
        "Call the normalized row z = x / rho. Then y = w z, and the gradient at z is w grad_y.",
        "d z_i / d x_j = (1 if i = j else 0) / rho - x_i x_j / (D rho^3): a diagonal part and one "
        "along x.",
        "`g = grad_y * weight`; `grad_x = (g - z * (g * z).mean(-1, keepdim=True)) / rho`; the "
        "weight's gradient sums `grad_y * z` over all rows.",
    ),
    cases={
        "one row of four numbers": args(normal(1, 4), normal(1, 4, seed=1), torch.ones(4), 1e-6),
        "weights of their own, 5 rows": args(*_ROWS),
        "a batch of 2 texts of 3 tokens, and a large eps": args(
            normal(2, 3, 5), normal(2, 3, 5, seed=1), normal(5, seed=2), 0.5
        ),
        "a row of zeros": args(
            normal(2, 3), torch.tensor([[0.0, 0, 0], [1, 2, 3]]), normal(3), 1.0
        ),
        "no automatic differentiation": lambda f: expect(not differentiates(f, *_ROWS), _BY_TORCH),
    },
    mistakes={
        "rho depends on x too: besides g / rho there is a part along x, which makes the gradient "
        "stand at right angles to x": partial(_by_hand, along=0),
        "the direction is right, but not divided by rho": partial(_by_hand, power=0),
        "multiply grad_y by the weight before it goes back through the division": (
            lambda grad_y, x, weight, eps: _by_hand(grad_y, x, torch.ones_like(weight), eps)
        ),
        "the gradient at x is right; the weight serves every row, so sum its gradient": partial(
            _by_hand, summed=False
        ),
        "the part along x holds the mean of g z over the row; yours has the sum": (
            lambda grad_y, x, weight, eps: _by_hand(grad_y, x, weight, eps, along=x.shape[-1])
        ),
        _BY_TORCH: _rms_norm_backward,
    },
)
