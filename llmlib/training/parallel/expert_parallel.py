"""Expert parallelism: each process has some of the experts, tokens travel to them and back."""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llmlib.architecture.experts.grouped_linear import Stacked
from llmlib.architecture.experts.mixture_of_experts import MixtureOfExperts
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch, LossFn
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.data_parallel import target_shares
from llmlib.training.parallel.ring import all_to_all, ring_all_reduce, sum_together
from llmlib.training.parallel.transposed import transposed


class ExpertParallel:
    r"""Trains a decoder with experts on processes that each have own rows and own experts.

    Process p has the experts $pE/P, \dots, (p + 1)E/P - 1$; all else is on every process. A layer
    sorts its tokens' copies by expert, sends each process those for its experts, and gets them back
    transformed: two all-to-alls forward, two backward, of as many rows as the router decides.
    Tokens that an expert has no room for are dropped before they travel; the room is counted in
    each process's own rows, as GShard's groups do.

    Args:
        model: Whole, the same on every process; experts of others are taken out of it.

    Raises:
        ValueError: When the model has no experts, or not equal shares of them.

    References:
        Lepikhin et al. (2020), GShard, section 3.2; Fedus et al. (2022), Switch Transformers,
        section 2.2.
    """

    def __init__(self, model: Transformer, comm: Communicator) -> None:
        n_experts = model.config.n_experts
        if not n_experts or n_experts % comm.size:
            raise ValueError(f"{n_experts} experts are not {comm.size} equal shares")
        self.model, self.comm = model, comm
        self.own: list[nn.Parameter] = []
        for layer in model.modules():
            if isinstance(layer, MixtureOfExperts):
                for stack in (layer.up, layer.out):
                    self.own.append(_take_share(stack, comm))
                layer.transform = partial(self._transform, layer.transform)

    def backward(self, loss_fn: LossFn, batches: list[Batch]) -> Tensor:
        """Compute the gradient of the mean loss over all processes' targets; return that loss.

        Every process needs as many micro-batches: the layers wait for each other.
        """
        loss = torch.zeros(1, dtype=torch.float64)
        for batch, share in zip(batches, target_shares(self.comm, batches), strict=True):
            mine = loss_fn(self.model, batch) * share
            mine.backward()
            loss += mine.detach()
        own = set(self.own)
        shared = [p for p in self.model.parameters() if p not in own]
        for parameter in shared:
            if parameter.grad is None:  # not met here, but perhaps elsewhere
                parameter.grad = torch.zeros_like(parameter)
        sum_together(self.comm, [p.grad for p in shared if p.grad is not None])
        ring_all_reduce(self.comm, loss)
        return loss[0]

    def _transform(
        self, transform: Any, rows: Float[Tensor, "A D"], counts: Int[Tensor, " E"]
    ) -> Float[Tensor, "A D"]:
        """Send rows to their experts' processes, transform what came, and send it back."""
        comm, size = self.comm, self.comm.size
        per_process = counts.view(size, -1)  # [P, E / P]
        came = torch.stack(
            all_to_all(comm, list(per_process), [per_process[0].shape] * size)
        )  # [P, E / P]
        gives, takes = per_process.sum(1).tolist(), came.sum(1).tolist()
        go = partial(_sent, gives=gives, takes=takes, comm=comm)
        come = partial(_sent, gives=takes, takes=gives, comm=comm)
        mine = transposed(rows, go, come)
        # What came is sorted by process, then by expert: bring each expert's together.
        experts = torch.arange(came.shape[1]).repeat(size).repeat_interleave(came.flatten())
        order = experts.argsort(stable=True)
        done = transform(mine[order], came.sum(0))[order.argsort()]
        return transposed(done, come, go)


def _sent(rows: Tensor, gives: list[int], takes: list[int], comm: Communicator) -> Tensor:
    shapes = [torch.Size((n, rows.shape[1])) for n in takes]
    return torch.cat(all_to_all(comm, rows.split(gives), shapes))


def _take_share(stack: Stacked, comm: Communicator) -> nn.Parameter:
    each = stack.n_experts // comm.size
    own = stack.matrices.detach()[comm.rank * each : (comm.rank + 1) * each]
    stack.weight, stack.n_experts = nn.Parameter(own.flatten(0, 1).clone()), each
    return stack.weight
