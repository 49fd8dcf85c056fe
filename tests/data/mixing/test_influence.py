"""Influence by two forward passes against gradients taken one document at a time."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmlib.data.mixing import influence


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Embedding(17, 11), nn.Linear(11, 7), nn.Tanh(), nn.Linear(7, 17))


def losses_of(network: nn.Module, rows: Tensor) -> Tensor:
    return F.cross_entropy(network(rows[:, :-1]).mT, rows[:, 1:], reduction="none").mean(dim=1)


@pytest.mark.covers("data.mixture")
def test_scores_are_the_products_of_the_gradients(network: nn.Sequential) -> None:
    documents, target = torch.randint(17, (23, 13)), torch.randint(17, (5, 13))
    parameters = [*network.parameters()]
    direction = torch.autograd.grad(losses_of(network, target).mean(), parameters)
    expected = torch.stack([
        torch.stack([(g * v).sum() for g, v in zip(gradient, direction, strict=True)]).sum()
        for loss in losses_of(network, documents)
        for gradient in [torch.autograd.grad(loss, parameters, retain_graph=True)]
    ])  # fmt: skip
    before = [p.clone() for p in parameters]
    scores = influence(lambda: losses_of(network, documents), parameters, direction)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3 * expected.std().item())
    # The direction's length is its caller's: twice as long, twice the product.
    twice = influence(lambda: losses_of(network, documents), parameters, [2 * v for v in direction])
    torch.testing.assert_close(twice, 2 * scores, rtol=1e-3, atol=1e-4)
    for p, start in zip(parameters, before, strict=True):
        torch.testing.assert_close(p, start, rtol=0, atol=0)


def test_a_step_on_the_best_document_lowers_the_targets_loss_most(network: nn.Sequential) -> None:
    documents, target = torch.randint(17, (19, 13)), torch.randint(17, (5, 13))
    parameters = [*network.parameters()]
    direction = torch.autograd.grad(losses_of(network, target).mean(), parameters)
    scores = influence(lambda: losses_of(network, documents), parameters, direction)

    def after(document: int) -> float:
        loss = losses_of(network, documents[document : document + 1]).mean()
        gradient = torch.autograd.grad(loss, parameters)
        moved = [p - 1e-3 * g for p, g in zip(parameters, gradient, strict=True)]
        names = [name for name, _ in network.named_parameters()]
        output = torch.func.functional_call(
            network, dict(zip(names, moved, strict=True)), (target[:, :-1],)
        )
        return F.cross_entropy(output.mT, target[:, 1:]).item()

    assert after(int(scores.argmax())) < after(int(scores.argmin()))


def test_the_parameters_come_back_after_an_error(network: nn.Sequential) -> None:
    parameters = [*network.parameters()]
    before = [p.clone() for p in parameters]

    def broken() -> Tensor:
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        influence(broken, parameters, [torch.ones_like(p) for p in parameters])
    for p, start in zip(parameters, before, strict=True):
        torch.testing.assert_close(p, start, rtol=0, atol=0)


def test_what_influence_refuses() -> None:
    theta = torch.ones(3)
    with pytest.raises(ValueError, match="one tensor of the same shape"):
        influence(lambda: theta, [theta], [torch.ones(2)])
    with pytest.raises(ValueError, match="direction of length 0"):
        influence(lambda: theta, [theta], [torch.zeros(3)])
    with pytest.raises(ValueError, match="step=0"):
        influence(lambda: theta, [theta], [torch.ones(3)], step=0.0)
