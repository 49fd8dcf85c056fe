"""An asynchronous pipeline: every stage updates after every backward pass, and never waits."""

import time
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.parallel.communicator import Communicator, Event
from llmlib.training.parallel.pipelines.orders import pipeline_orders
from llmlib.training.parallel.pipelines.stages import PipelineParallel
from llmlib.training.parallel.pipelines.weight_versions import (
    MakeStageOptimizer,
    WeightVersions,
    require_untied,
)
from llmlib.training.parallel.ring import ring_all_reduce


class AsynchronousPipeline(PipelineParallel):
    r"""PipeDream: 1F1B without an end, an update after each micro-batch's backward pass.

    Stage s of P starts $P - 1 - s$ micro-batches ahead, so between a micro-batch's forward and its
    backward pass it makes as many updates. Weight stashing keeps the versions that micro-batches
    under way have seen, at most $P - s$ of them: a backward pass sees the weights of its forward
    pass. The stages' versions still differ: a micro-batch meets old weights in the first stage and
    the newest ones in the last.

    Args:
        model: As `PipelineParallel`'s, its embedding and output matrix apart.
        make_optimizer: Makes this stage's optimizer.
        stashing: Without it, a backward pass meets the newest weights, and its gradient is that of
            no loss.

    Raises:
        ValueError: When embedding and output matrix are one, or the layers no equal runs.

    References:
        Narayanan et al. (2019), PipeDream: Generalized Pipeline Parallelism for DNN Training,
        sections 3.2 and 3.3.
    """

    def __init__(
        self,
        model: Transformer,
        comm: Communicator,
        make_optimizer: MakeStageOptimizer,
        *,
        stashing: bool = True,
    ) -> None:
        require_untied(model)
        super().__init__(model, comm, "1f1b")
        self.versions = WeightVersions(
            self.parameters().values(), make_optimizer, stashing=stashing
        )
        self.staleness: list[int] = []
        """Updates between each micro-batch's forward and its backward pass here."""
        self.most_versions = 0
        """The most versions that were kept at once, the newest included."""

    def train(self, micro_batches: list[Batch]) -> Float[Tensor, " m"]:
        """Make an update from each micro-batch; return their losses, in nats a token.

        The pipeline is empty before and after: the longer the list, the fewer gaps.
        """
        under_way: dict[int, tuple[Any, list[Tensor], int]] = {}
        losses = torch.zeros(len(micro_batches), dtype=torch.float64)
        for work in pipeline_orders("1f1b", self.comm.size, len(micro_batches))[self.comm.rank]:
            m, began = work.micro_batch, time.perf_counter()
            if work.part == "F":
                kept = self._forward(work, micro_batches[m], 1.0)
                if self.is_last:
                    losses[m] = kept.out.detach()
                under_way[m] = (kept, self.versions.shown(), self.versions.n_updates)
                alive = {then for *_, then in under_way.values()}
                self.most_versions = max(self.most_versions, len(alive))
            else:
                kept, seen, then = under_way.pop(m)
                newest = self.versions.shown()
                self.versions.show(seen)
                self._backward(work, kept)
                self.versions.show(newest)
                self.staleness.append(self.versions.n_updates - then)
                self.versions.update()
            self.comm.events.append(Event(str(work), began, time.perf_counter()))
        self.comm.flush()
        ring_all_reduce(self.comm, losses)
        return losses
