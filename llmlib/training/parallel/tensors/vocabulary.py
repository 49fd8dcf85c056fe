"""Embedding and cross-entropy whose words are split over processes: nobody has all logits."""

from collections.abc import Callable
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, autograd, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llmlib.architecture.exact import wide
from llmlib.core.batch import IGNORE
from llmlib.training.parallel.communicator import Communicator
from llmlib.training.parallel.ring import ring_all_gather, ring_all_reduce


class VocabularyParallelEmbedding(nn.Module):
    """Looks up the own words, zero for others'; `combine` sums what the processes found."""

    def __init__(
        self, weight: nn.Parameter, first: int, combine: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.weight, self.first, self.combine = weight, first, combine

    def forward(self, tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B S D"]:
        """Return every token's vector, of all tokens or of the own share."""
        own = (tokens >= self.first) & (tokens < self.first + len(self.weight))
        found = F.embedding((tokens - self.first).where(own, 0), self.weight)
        return self.combine(found * own.unsqueeze(-1))


def split_cross_entropy(
    hidden: Float[Tensor, "*rows D"],
    weight: Float[Tensor, "Vp D"],
    targets: Int[Tensor, "*rows"],
    vocab_size: int,
    comm: Communicator,
) -> Float[Tensor, ""]:
    r"""Return the mean cross-entropy where each process has some words' rows of the output matrix.

    $-\log p_y = \log \sum_p Z_p - z_y$ with $Z_p = \sum_{v \in p} e^{z_v - m}$: three numbers a
    token go round, the largest logit m, the sum $Z$ and the target's logit, instead of V.

    Args:
        weight: The words of this process, `tensor_split`'s part of the vocabulary.
        targets: The same on every process; 0 is returned if none counts.

    References:
        Shoeybi et al. (2019), Megatron-LM, section 3.
    """
    first = int(torch.arange(vocab_size).tensor_split(comm.size)[comm.rank][0])
    logits = wide(F.linear(hidden.flatten(0, -2), weight))  # [rows, Vp]
    return cast("Tensor", _SplitCrossEntropy.apply(logits, targets.flatten(), first, comm))


class _SplitCrossEntropy(autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, first: int, comm: Communicator
    ) -> Tensor:
        highest = logits.new_empty(comm.size, len(logits))
        highest[comm.rank] = logits.amax(dim=-1)
        ring_all_gather(comm, highest.view(-1))
        shifted = logits - highest.amax(dim=0).unsqueeze(-1)
        counts = targets != IGNORE
        own = (targets >= first) & (targets < first + logits.shape[1])
        index = (targets - first).where(own, 0).unsqueeze(-1)
        chosen = shifted.gather(-1, index).squeeze(-1) * own
        probabilities = shifted.exp()
        both = torch.stack([probabilities.sum(dim=-1), chosen])
        ring_all_reduce(comm, both.view(-1))
        normalizer, chosen = both
        n_counted = counts.sum().clamp_min(1)
        probabilities /= normalizer.unsqueeze(-1)
        ctx.save_for_backward(probabilities, index, own, counts, n_counted)
        return ((normalizer.log() - chosen) * counts).sum() / n_counted

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        probabilities, index, own, counts, n_counted = ctx.saved_tensors
        gradient = probabilities.scatter_add(-1, index, -own.to(probabilities.dtype).unsqueeze(-1))
        return gradient * (counts.unsqueeze(-1) * grad / n_counted), None, None, None
