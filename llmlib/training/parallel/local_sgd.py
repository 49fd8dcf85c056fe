"""DiLoCo: workers that train alone for many steps and meet seldom."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.ring import sum_together


class DiLoCo:
    r"""Averages what workers learned in H steps alone, as the gradient of an outer optimizer.

    From shared weights $\theta$ worker p trains to $\theta_p$. The outer gradient
    $\Delta = \tfrac1P \sum_p (\theta - \theta_p)$ points from where they went to where they were,
    so that an outer optimizer that descends, $\theta \leftarrow \theta - \eta\,\Delta$, goes where
    they went. With $\eta = 1$ and no momentum that is the average of the workers' weights; with
    H = 1 and plain gradient descent inside, one step on the averaged gradient. A worker sends
    $2\tfrac{P-1}{P}$ of the weights every H steps instead of every step.

    Args:
        model: This worker's; all start equal.
        outer: Builds the outer optimizer for given tensors. Default: the paper's, gradient descent
            with rate 0.7 and Nesterov momentum 0.9.

    References:
        Douillard et al. (2023), DiLoCo: Distributed Low-Communication Training of Language Models,
        algorithm 1; McMahan et al. (2017), Communication-Efficient Learning of Deep Networks from
        Decentralized Data (averaging).
    """

    def __init__(
        self,
        model: nn.Module,
        comm: Communicator,
        outer: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None,
    ) -> None:
        self.model, self.comm = model, comm
        self.shared = [p.detach().clone().requires_grad_() for p in model.parameters()]
        self.optimizer = (outer or _nesterov)(self.shared)

    @torch.no_grad()
    def meet(self) -> None:
        """Average the workers' changes, step the shared weights, and start the next lap there."""
        own = list(self.model.parameters())
        changes = [before - after for before, after in zip(self.shared, own, strict=True)]
        sum_together(self.comm, changes)
        for weight, change in zip(self.shared, changes, strict=True):
            weight.grad = change / self.comm.size
        self.optimizer.step()
        for mine, weight in zip(own, self.shared, strict=True):
            mine.copy_(weight)


def _nesterov(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.7, momentum=0.9, nesterov=True)
