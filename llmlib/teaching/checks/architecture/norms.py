"""Checks of the exercises of chapters/04_architecture/02_norms.ipynb."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from llmlib.teaching.authoring import Exercise, args

NOTEBOOK = "04_architecture/02_norms"


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# LayerNorm


def _layer_norm_rows(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def _centered(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def _two_roots(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    variance = x.var(-1, correction=0, keepdim=True) + eps
    return weight * _centered(x) / variance.sqrt().sqrt() + bias


layer = Exercise(
    "layer_norm_rows",
    title="LayerNorm from its definition",
    reference=_layer_norm_rows,
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
            3 + _random(5, 7), _random(7, seed=1), _random(7, seed=2), 1e-5
        ),
        "a batch of 2 texts of 3 tokens, and a large eps": args(
            _random(2, 3, 5), _random(5, seed=1), _random(5, seed=2), 0.5
        ),
        "a row of equal numbers": args(torch.full((1, 5), 2.0), torch.ones(5), _random(5), 1e-5),
    },
    mistakes={
        (
            "you divided by the variance; its root makes the result's variance 1"
        ): lambda x, weight, bias, eps: (
            weight * _centered(x) / (x.var(-1, correction=0, keepdim=True) + eps) + bias
        ),
        (
            "you took the root twice, as the survey's table prints it: sigma is a root already"
        ): _two_roots,
        (
            "torch.var and torch.std divide by D - 1; a norm divides by D: `correction=0`"
        ): lambda x, weight, bias, eps: (
            weight * _centered(x) / (x.var(-1, keepdim=True) + eps).sqrt() + bias
        ),
        "this is RMSNorm: subtract the row's mean first": lambda x, weight, bias, eps: (
            weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt() + bias
        ),
        (
            "eps is added to the standard deviation; it belongs to the variance, under the root"
        ): lambda x, weight, bias, eps: (
            weight * _centered(x) / (x.std(-1, correction=0, keepdim=True) + eps) + bias
        ),
        (
            "the rows are normalized, but weight and bias are not applied"
        ): lambda x, weight, bias, eps: F.layer_norm(x, weight.shape, eps=eps),
        (
            "the bias was added before the weight multiplied; it is added last"
        ): lambda x, weight, bias, eps: weight * (F.layer_norm(x, weight.shape, eps=eps) + bias),
    },
)


# DeepNorm's constants


def _deepnorm_start(n_layers: int, d_model: int, d_ff: int) -> tuple[float, dict[str, float]]:
    return _start(n_layers, d_model, d_ff)


def _start(
    n_layers: int,
    d_model: int,
    d_ff: int,
    *,
    alpha: float = 0.0,
    beta: float = 0.0,
    small: tuple[str, ...] = ("values", "out", "up", "down"),
    square: bool = False,
) -> tuple[float, dict[str, float]]:
    alpha = alpha or (2 * n_layers) ** 0.25
    beta = beta or (8 * n_layers) ** -0.25
    fans = dict.fromkeys(("queries", "keys", "values", "out"), 2 * d_model)
    fans |= dict.fromkeys(("up", "down"), d_model + d_ff)
    stds = {name: math.sqrt(2 / fan) * (beta if name in small else 1) for name, fan in fans.items()}
    return alpha, {name: std**2 if square else std for name, std in stds.items()}


def _exchanged(n_layers: int, d_model: int, d_ff: int) -> tuple[float, dict[str, float]]:
    alpha, beta = (8 * n_layers) ** -0.25, (2 * n_layers) ** 0.25
    return _start(n_layers, d_model, d_ff, alpha=alpha, beta=beta)


def _square_roots(n_layers: int, d_model: int, d_ff: int) -> tuple[float, dict[str, float]]:
    alpha, beta = (2 * n_layers) ** 0.5, (8 * n_layers) ** -0.5
    return _start(n_layers, d_model, d_ff, alpha=alpha, beta=beta)


def _all_small(n_layers: int, d_model: int, d_ff: int) -> tuple[float, dict[str, float]]:
    names = ("queries", "keys", "values", "out", "up", "down")
    return _start(n_layers, d_model, d_ff, small=names)


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
        "alpha must grow with the depth and beta fall; yours are exchanged": _exchanged,
        (
            "these are square roots; DeepNorm takes fourth roots, because a sublayer has "
            "two matrices that share the factor"
        ): _square_roots,
        "queries and keys keep Xavier's standard deviation: no beta for them": _all_small,
        (
            "the values' matrix takes beta too: it decides how large attention's output is"
        ): lambda n_layers, d_model, d_ff: _start(
            n_layers, d_model, d_ff, small=("out", "up", "down")
        ),
        "these are variances; take their roots": lambda n_layers, d_model, d_ff: _start(
            n_layers, d_model, d_ff, square=True
        ),
    },
)


# The gradient of RMSNorm


def _rms_norm_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    leaves = [x.detach().requires_grad_(), weight.detach().requires_grad_()]
    with torch.enable_grad():
        y = F.rms_norm(leaves[0], weight.shape, leaves[1], eps)
    grad_x, grad_weight = torch.autograd.grad(y, leaves, grad_y)
    return grad_x, grad_weight


def _parts(
    grad_y: Tensor, x: Tensor, weight: Tensor, eps: float, *, along: bool = True, power: int = 1
) -> tuple[Tensor, Tensor]:
    rho = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    z, g = x / rho, grad_y * weight
    grad_x = g - z * (g * z).mean(-1, keepdim=True) if along else g
    return grad_x / rho**power, (grad_y * z).flatten(0, -2).sum(dim=0)


def _weight_forgotten(
    grad_y: Tensor, x: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    _, grad_weight = _parts(grad_y, x, weight, eps)
    return _parts(grad_y, x, torch.ones_like(weight), eps)[0], grad_weight


def _not_summed(grad_y: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    rho = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return _parts(grad_y, x, weight, eps)[0], grad_y * x / rho


def _sum_along(grad_y: Tensor, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    rho = (x.square().mean(-1, keepdim=True) + eps).sqrt()
    z, g = x / rho, grad_y * weight
    grad_x = (g - z * (g * z).sum(-1, keepdim=True)) / rho
    return grad_x, _parts(grad_y, x, weight, eps)[1]


backward = Exercise(
    "rms_norm_backward",
    title="the gradient of RMSNorm by hand",
    points=4,
    reference=_rms_norm_backward,
    hints=(
        "Call the normalized row z = x / rho. Then y = w z, and the gradient at z is w grad_y.",
        "d z_i / d x_j = (1 if i = j else 0) / rho - x_i x_j / (D rho^3): a diagonal part and one "
        "along x.",
        "`g = grad_y * weight`; `grad_x = (g - z * (g * z).mean(-1, keepdim=True)) / rho`; the "
        "weight's gradient sums `grad_y * z` over all rows.",
    ),
    cases={
        "one row of four numbers": args(_random(1, 4), _random(1, 4, seed=1), torch.ones(4), 1e-6),
        "weights of their own, 5 rows": args(
            _random(5, 7), _random(5, 7, seed=1), _random(7, seed=2), 1e-6
        ),
        "a batch of 2 texts of 3 tokens, and a large eps": args(
            _random(2, 3, 5), _random(2, 3, 5, seed=1), _random(5, seed=2), 0.5
        ),
    },
    mistakes={
        (
            "rho depends on x too: besides g / rho there is a part along x, which makes "
            "the gradient stand at right angles to x"
        ): lambda grad_y, x, weight, eps: _parts(grad_y, x, weight, eps, along=False),
        (
            "the direction is right, but the gradient is not divided by rho"
        ): lambda grad_y, x, weight, eps: _parts(grad_y, x, weight, eps, power=0),
        "multiply grad_y by the weight before it goes back through the division": _weight_forgotten,
        "the gradient at x is right; the weight serves every row, so sum its gradient": _not_summed,
        "the part along x holds the mean of g z over the row; yours has the sum": _sum_along,
    },
)
