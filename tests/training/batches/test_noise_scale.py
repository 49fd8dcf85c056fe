"""The noise of a gradient where it is known: every draw counted, a quadratic, and its best step."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.training.batches.noise_scale import (
    GradientNoise,
    measure_noise,
    split_noise,
    steps_to_target,
)
from llmlib.training.objectives.next_token import next_token_loss


class Point(nn.Module):
    """A place in a valley, or on a slope where there is no curvature."""

    def __init__(self, place: Tensor, curvature: Tensor | None = None) -> None:
        super().__init__()
        self.place = nn.Parameter(place)
        self.curvature = curvature


def pushed(model: nn.Module, batch: Batch) -> Tensor:
    r"""$\frac12 \theta^\top H \theta + \theta^\top \bar n$: the gradient is $H\theta + \bar n$."""
    assert isinstance(model, Point)
    linear = (batch["push"] @ model.place).mean()
    if model.curvature is None:
        return linear
    return linear + 0.5 * model.place @ model.curvature @ model.place


@pytest.mark.covers("train.batch")
def test_the_mean_over_every_possible_draw_is_exact() -> None:
    """A row pushes by g plus or minus a spread in each direction: three rows have 64 draws."""
    g = torch.tensor([0.3, -1.1], dtype=torch.float64)
    spread = torch.tensor([2.0, 0.7], dtype=torch.float64)
    model = Point(torch.zeros(2, dtype=torch.float64))
    rows = [g + spread * torch.tensor(signs) for signs in product((-1.0, 1.0), repeat=2)]
    found = [
        measure_noise(model, [{"push": row[None]} for row in draw], pushed)
        for draw in product(rows, repeat=3)
    ]
    mean = GradientNoise.pooled(found)
    assert len(found) == 64
    assert mean.signal == pytest.approx(0.3**2 + 1.1**2, rel=1e-12)
    assert mean.noise == pytest.approx(2.0**2 + 0.7**2, rel=1e-12)
    assert min(one.signal for one in found) < 0, "a single estimate may be below zero"


@pytest.mark.covers("train.batch")
def test_a_quadratic_has_the_scale_of_its_closed_form() -> None:
    generator = torch.Generator().manual_seed(5)
    root = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    curvature = root @ root.T / 7
    mixing = torch.randn(7, 7, generator=generator, dtype=torch.float64)  # Sigma = mixing mixing^T
    place = torch.randn(7, generator=generator, dtype=torch.float64)
    model = Point(place, curvature)

    def draw() -> list[Batch]:
        pushes = torch.randn(11, 5, 7, generator=generator, dtype=torch.float64) @ mixing.T
        return [{"push": push} for push in pushes]

    found = [measure_noise(model, draw(), pushed) for _ in range(151)]
    signal, noise = (curvature @ place).square().sum().item(), mixing.square().sum().item()
    for name, expected in (("signal", signal), ("noise", noise)):
        values = torch.tensor([getattr(one, name) for one in found], dtype=torch.float64)
        error = values.std().item() / len(values) ** 0.5
        assert abs(values.mean().item() - expected) < 4 * error
        assert error < 0.1 * expected, "else the comparison would say little"
    assert GradientNoise.pooled(found).scale == pytest.approx(noise / signal, rel=0.2)


def test_unequal_or_single_micro_batches_are_refused() -> None:
    model = Point(torch.zeros(2))
    rows = [{"push": torch.ones(3, 2)}, {"push": torch.ones(2, 2)}]
    for wrong in (rows, rows[:1]):
        with pytest.raises(ValueError, match="give two or more, each with as many"):
            measure_noise(model, wrong, pushed)
    with pytest.raises(ValueError, match="the smaller first"):
        split_noise(1.0, 2.0, small_batch=5, large_batch=5)


def test_a_models_noise_counts_targets_and_leaves_it_alone() -> None:
    torch.manual_seed(3)
    model = Transformer(
        ModelConfig(vocab_size=11, d_model=6, n_layers=1, n_heads=3, max_seq_len=13)
    ).double()
    tokens = torch.randint(0, 11, (5, 3, 13))
    targets = torch.randint(0, 11, (5, 3, 13))
    targets[:, :, 9:] = IGNORE
    batches: list[Batch] = [
        {"inputs": x, "targets": y} for x, y in zip(tokens, targets, strict=True)
    ]
    noise = measure_noise(model, batches, next_token_loss)
    gradients = []
    for batch in batches:
        model.zero_grad()
        next_token_loss(model, batch).backward()
        parts = [p.grad for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat([part.flatten() for part in parts]))
    model.zero_grad()
    # By the textbook: the sample variance of means over 27 targets is their share of one target's.
    stacked = torch.stack(gradients)
    variance = stacked.var(dim=0).sum().item()
    assert noise.noise == pytest.approx(27 * variance, rel=1e-9)
    assert noise.signal == pytest.approx(
        stacked.mean(dim=0).square().sum().item() - variance / 5, rel=1e-9
    )
    measure_noise(model, batches, next_token_loss)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.covers("train.batch")
def test_steps_and_examples_trade_on_a_quadratic() -> None:
    """Expected losses, a hundredfold range of curvatures, the best constant rate for each batch."""
    curvature = torch.logspace(0, -2, 11, dtype=torch.float64)
    variance = curvature
    batches = torch.tensor([1, 4, 16, 64, 256, 1024, 1e12], dtype=torch.float64)
    rates = torch.logspace(-3, 0.29, 60, dtype=torch.float64)[:, None, None]
    shrink, added = (1 - rates * curvature) ** 2, rates**2 * variance / batches[:, None]
    square = torch.ones(60, 7, 11, dtype=torch.float64)  # of the distance, expected
    target = curvature.sum() / 2 / 20
    first = torch.full((60, 7), torch.inf, dtype=torch.float64)
    for step in range(400):
        reached = (square @ curvature / 2 <= target) & first.isinf()
        first[reached] = step
        square = shrink * square + added
    steps = first.amin(dim=0).tolist()
    least, critical = steps[-1], steps[0] / steps[-1]
    predicted = [
        steps_to_target(b, least_steps=least, critical_batch=critical) for b in batches.tolist()
    ]
    assert steps[0] > 200 and least < 8, "both ends of the trade are there"
    assert steps == pytest.approx(predicted, rel=0.1)


def test_what_the_loss_does_not_use_adds_no_noise():
    torch.manual_seed(0)
    used, unused = nn.Linear(3, 2), nn.Linear(5, 7)
    batches = [{"inputs": torch.randn(11, 3)} for _ in range(3)]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return used(batch["inputs"]).square().mean()

    whole = measure_noise(nn.ModuleList([used, unused]), batches, loss)
    assert whole == measure_noise(used, batches, loss)


def test_nothing_to_measure_is_refused():
    batches = [{"targets": torch.full((3, 5), IGNORE)}] * 2
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"micro-batches of \[0, 0\] targets"):
        measure_noise(model, batches, lambda m, b: m(torch.ones(3)).sum())
    with pytest.raises(ValueError, match="unfreeze"):
        measure_noise(model.requires_grad_(False), batches, lambda m, b: m(torch.ones(3)).sum())
    with pytest.raises(ValueError, match="no estimate"):
        GradientNoise.pooled([])
    with pytest.raises(ValueError, match="batch=0 must be above 0"):
        steps_to_target(0, least_steps=3, critical_batch=5)
