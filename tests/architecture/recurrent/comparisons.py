"""What is asked of every layer without attention."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.architecture import ModelConfig, Transformer


def exactly_equal(actual: object, expected: object, *, tolerance: float = 1e-10) -> None:
    """Compare in float64, up to rounding."""
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def assert_causal(
    mix: Callable[[Tensor], Tensor], x: Tensor, *, tolerance: float = 1e-10, change: float = 1e-6
) -> None:
    """Change the tokens from 23 on: those before stay, and all others differ."""
    changed = x.clone()
    changed[:, 23:] += 1
    before, after = mix(x), mix(changed)
    exactly_equal(before[:, :23], after[:, :23], tolerance=tolerance)
    assert (before[:, 23:] - after[:, 23:]).abs().amax(dim=(0, 2)).min() > change


def assert_every_parameter_learns(layer: nn.Module, output: Tensor) -> None:
    output.square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def assert_learns_to_recall(
    config: ModelConfig, draw: Callable[[], tuple[Tensor, Tensor]], *, steps: int
) -> None:
    """Train on texts and answers, one of ten tokens; gradients at 1,024 tokens are finite."""
    torch.manual_seed(0)
    long = Transformer(config)
    long(torch.randint(11, (1, 1024))).logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in long.parameters())
    model = Transformer(config)
    optimizer, loss = torch.optim.AdamW(model.parameters(), lr=1e-2), torch.zeros(())
    for _ in range(steps):
        tokens, answers = draw()
        loss = F.cross_entropy(model(tokens)[:, -1], answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0 < loss.item() < 0.5 * math.log(10), "guessing costs ln 10"
