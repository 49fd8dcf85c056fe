"""Checks of the exercises of chapters/05_training/02_optimizers.ipynb."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from llmlib.teaching.authoring import Exercise, args, normal

NOTEBOOK = "05_training/02_optimizers"

# What weight decay leaves


def _left(rates: Tensor, weight_decay: float) -> float:
    return float((1 - rates.double() * weight_decay).prod())


_FALL = torch.cat((torch.linspace(0.1, 1, 7), torch.linspace(1, 0, 23)))

decayed_share = Exercise(
    "decayed_share",
    title="what weight decay leaves of a first weight",
    reference=_left,
    hints=(
        "One step of AdamW multiplies the weight by a number just below 1. Which?",
        "The rate of that step stands in it: 1 - rate * weight_decay.",
        "Multiply over all steps: `(1 - rates * weight_decay).prod()`.",
    ),
    cases={
        "two steps of rate 1/2 with a decay of 1/2: 9/16": args(torch.tensor([0.5, 0.5]), 0.5),
        "no decay leaves all": args(torch.tensor([0.3, 0.2, 0.1]), 0.0),
        "up for 7 steps and down for 23": args(0.2 * _FALL, 0.5),
        "2,000 small steps": args(3e-3 * torch.ones(2000), 0.1),
    },
    mistakes={
        "you subtracted the decays' sum; each step takes its share of what is left": (
            lambda rates, decay: 1 - decay * float(rates.double().sum())
        ),
        "the decay is multiplied by the learning rate of its step": (
            lambda rates, decay: (1 - decay) ** len(rates)
        ),
        "this is the share that was lost; asked for is what is left": (
            lambda rates, decay: 1 - _left(rates, decay)
        ),
        "every step has a rate of its own; you took the largest for all": (
            lambda rates, decay: (1 - float(rates.max()) * decay) ** len(rates)
        ),
        "every step has a rate of its own; you took their mean for all": (
            lambda rates, decay: (1 - float(rates.double().mean()) * decay) ** len(rates)
        ),
        "the exponential of the sum is what many tiny steps come to; these steps are not tiny": (
            lambda rates, decay: math.exp(-decay * float(rates.double().sum()))
        ),
    },
)


# The largest second moment


def _path(
    gradients: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    *,
    top: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda top, square, g: torch.maximum(
        top, square
    ),
    feeds_back: bool = False,
    corrected: bool = True,
    of_corrected: bool = False,
    eps_inside: bool = False,
) -> Tensor:
    weight, mean, square, largest = (torch.zeros_like(gradients[0]) for _ in range(4))
    path: list[Tensor] = []
    for step, g in enumerate(gradients, 1):
        mean = beta1 * mean + (1 - beta1) * g
        square = beta2 * square + (1 - beta2) * g * g
        one, two = (1 - beta1**step, 1 - beta2**step) if corrected else (1.0, 1.0)
        largest = top(largest, square / two if of_corrected else square, g)
        square = largest if feeds_back else square
        size = largest if of_corrected else largest / two
        root = (size + eps).sqrt() if eps_inside else size.sqrt() + eps
        weight = weight - lr * mean / one / root
        path.append(weight)
    return torch.stack(path)


def _gradients(*shape: int, spike: int, seed: int) -> Tensor:
    """Draw gradients, one step's thirty times as large."""
    drawn = normal(*shape, seed=seed)
    drawn[spike] *= 30
    return drawn


amsgrad = Exercise(
    "amsgrad_path",
    title="Adam that does not forget its largest gradient",
    points=2,
    reference=_path,
    hints=(
        "Two things are kept besides the mean: the running average of squares, as in Adam, and the "
        "largest value that this average has had.",
        "The largest is taken number by number, of the averages before their correction, and it "
        "never flows back into the average.",
        "`largest = torch.maximum(largest, square)`, then Adam's step with "
        "`(largest / (1 - beta2**step)).sqrt() + eps` below.",
    ),
    cases={
        "one number, gradients 3, 1, 1": args(
            torch.tensor([[3.0], [1.0], [1.0]]), 0.1, 0.5, 0.5, 0.0
        ),
        "a spike among 11 steps of 5 numbers": args(
            _gradients(11, 5, spike=3, seed=1), 0.1, 0.9, 0.8, 1e-3
        ),
        "23 steps of a matrix": args(_gradients(23, 3, 7, spike=5, seed=2), 0.02, 0.8, 0.9, 1e-2),
    },
    mistakes={
        "this is Adam: after a large gradient its average falls again": partial(
            _path, top=lambda top, square, g: square
        ),
        "you kept the largest squared gradient; kept is the largest of their averages": partial(
            _path, top=lambda top, square, g: torch.maximum(top, g * g)
        ),
        "the largest flowed back into the average; the average goes on as Adam's": partial(
            _path, feeds_back=True
        ),
        "the averages start at zero, and you did not correct for it": partial(
            _path, corrected=False
        ),
        "the largest is of the averages as they are; you corrected each before comparing": partial(
            _path, of_corrected=True
        ),
        "eps is added to the root, not below it": partial(_path, eps_inside=True),
        "every number has its own largest average; you took one for all": partial(
            _path, top=lambda top, square, g: torch.maximum(top, square).max().expand_as(top)
        ),
    },
)


# One second moment a row


def _mini(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    *,
    size: Callable[[Tensor], Tensor] = lambda g: g.square().mean(dim=1),
    corrected: bool = True,
    kept_corrected: bool = False,
    eps_inside: bool = False,
    old: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    (beta1, beta2), one, two = betas, 1.0, 1.0
    if corrected:
        one, two = 1 - beta1**step, 1 - beta2**step
    mean = beta1 * mean + (1 - beta1) * gradient
    square = old * beta2 * square + (1 - beta2) * size(gradient)
    root = (square / two + eps).sqrt() if eps_inside else (square / two).sqrt() + eps
    weight = weight - (lr / one / root).unsqueeze(1) * mean
    return (weight, mean / one, square / two) if kept_corrected else (weight, mean, square)


def _mini_case(rows: int, columns: int, step: int, seed: int) -> tuple[object, ...]:
    weight, gradient, mean = (normal(rows, columns, seed=seed + k) for k in range(3))
    return (weight, gradient * torch.arange(1.0, rows + 1).unsqueeze(1), 0.1 * mean,
            normal(rows, seed=seed + 3).square(), step, 0.1, (0.8, 0.9), 1e-3)  # fmt: skip


adam_mini = Exercise(
    "adam_mini_step",
    title="Adam with one second moment a row",
    points=3,
    reference=_mini,
    hints=(
        "Only the second moment changes: `square` has one number a row, `[rows]`.",
        "What is averaged over time is the row's mean of squared gradients, "
        "`gradient.square().mean(dim=1)`; correct it as Adam's.",
        "Every number of a row is then divided by the same root: give it a second axis, "
        "`unsqueeze(1)`.",
    ),
    cases={
        "a first step from zero: rows 3, 4 and 5, 12": args(
            torch.zeros(2, 2), torch.tensor([[3.0, 4.0], [5.0, 12.0]]), torch.zeros(2, 2),
            torch.zeros(2), 1, 0.1, (0.9, 0.95), 0.0,
        ),
        "the seventh step of a 5 x 3 matrix": args(*_mini_case(5, 3, 7, seed=10)),
        "a wide matrix": args(*_mini_case(2, 11, 2, seed=20)),
        "a square matrix": args(*_mini_case(7, 7, 13, seed=30)),
    },
    mistakes={
        "a row's squares are averaged, not summed: else wide matrices take smaller steps": partial(
            _mini, size=lambda g: g.square().sum(dim=1)
        ),
        "square first, then average: the other way opposite gradients cancel": partial(
            _mini, size=lambda g: g.mean(dim=1).square()
        ),
        "you gave the whole matrix one number; each row has its own": partial(
            _mini, size=lambda g: g.square().mean().expand(len(g))
        ),
        "these are columns: a row's mean runs along it, `dim=1`": partial(
            _mini, size=lambda g: g.square().mean(dim=0)
        ),
        "the moments start at zero: divide them by 1 - beta**step": partial(
            _mini, corrected=False
        ),
        "the step is right, but what is kept for the next one are the averages themselves, not "
        "corrected": partial(_mini, kept_corrected=True),
        "eps is added to the root, not below it": partial(_mini, eps_inside=True),
        "the old second moment is lost: it is beta2 of the new one": partial(_mini, old=0.0),
    },
)  # fmt: skip


# Shampoo


def _power(matrix: Tensor, eps: float, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag((values + eps) ** exponent) @ vectors.mT


def _shampoo(
    gradient: Tensor, left: Tensor, right: Tensor, eps: float, *, exponent: float = -0.25
) -> Tensor:
    return _power(left, eps, exponent) @ gradient @ _power(right, eps, exponent)


def _eps_late(matrix: Tensor, eps: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(1 / (values.clamp_min(0) ** 0.25 + eps)) @ vectors.mT


def _not_turned_back(gradient: Tensor, left: Tensor, right: Tensor, eps: float) -> Tensor:
    (rows, from_rows), (columns, from_columns) = map(torch.linalg.eigh, (left, right))
    turned = from_rows.mT @ gradient @ from_columns
    return ((rows + eps) ** -0.25).unsqueeze(1) * turned * (columns + eps) ** -0.25


def _entrywise(gradient: Tensor, left: Tensor, right: Tensor, eps: float) -> Tensor:
    one, two = (
        (m + eps * torch.eye(len(m), dtype=m.dtype)).abs().clamp_min(1e-12) for m in (left, right)
    )
    return one**-0.25 @ gradient @ two**-0.25


def _shampoo_case(rows: int, columns: int, n: int, seed: int, eps: float) -> tuple[object, ...]:
    drawn = normal(n, rows, columns, seed=seed).double()
    left, right = (drawn @ drawn.mT).mean(0), (drawn.mT @ drawn).mean(0)
    return drawn[-1], left, right, eps


_ONE = normal(3, 3, seed=5).double()

shampoo = Exercise(
    "shampoo_update",
    title="Shampoo, from which SOAP and Muon come",
    points=4,
    reference=_shampoo,
    hints=(
        "A symmetric matrix is Q diag(l) Q^T; its power is Q diag(l^p) Q^T: `torch.linalg.eigh`.",
        "eps is added to the eigenvalues, which is the same as eps I added to the matrix.",
        "The exponent is -1/4 on each side: both together make -1/2, as Adam's root does.",
    ),
    cases={
        "diagonal covariances 16 and 81, 1 and 256": args(
            torch.tensor([[6.0, 24.0], [9.0, 36.0]]).double(),
            torch.diag(torch.tensor([16.0, 81.0])).double(),
            torch.diag(torch.tensor([1.0, 256.0])).double(),
            0.0,
        ),
        "covariances of this one gradient: all singular values become 1": args(
            _ONE, _ONE @ _ONE.mT, _ONE.mT @ _ONE, 0.0
        ),
        "a 5 x 3 gradient, covariances of 7": args(*_shampoo_case(5, 3, 7, 1, 1e-3)),
        "a wide one with a large eps": args(*_shampoo_case(2, 7, 11, 2, 0.5)),
    },
    mistakes={
        "each side takes the power -1/4; -1/2 on both sides divides twice": partial(
            _shampoo, exponent=-0.5
        ),
        "a power of a matrix is no power of its entries: go through the eigenvalues": _entrywise,
        "the columns have a covariance too: multiply by the right one's power": (
            lambda gradient, left, right, eps: _power(left, eps, -0.25) @ gradient
        ),
        "the sign of the power is missing: large directions are to become smaller": partial(
            _shampoo, exponent=0.25
        ),
        "eps belongs to the covariances, not to their roots": (
            lambda gradient, left, right, eps: (
                _eps_late(left, eps) @ gradient @ _eps_late(right, eps)
            )
        ),
        "the step is still in the eigenvectors' directions: turn it back": _not_turned_back,
    },
)
