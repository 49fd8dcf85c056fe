"""A pipeline by torch's own schedules: each process has a run of the decoder's layers."""

from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch, count_targets
from llmlib.training.distributed import rank, world_size
from llmlib.training.memory.chunked_loss import linear_cross_entropy


class _Run(nn.Module):
    """The layers of one process, with the embedding in front of the first and the norm behind."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model
        self.is_first, self.is_last = rank() == 0, rank() == world_size() - 1

    def forward(self, came: Tensor) -> Float[Tensor, "B T D"]:
        """Read tokens, or hidden states of the process before."""
        model, tokens = self.model, came
        if not self.is_first:  # positions only; there is no other use of the tokens here
            tokens = torch.zeros(came.shape[:2], dtype=torch.int64, device=came.device)
        context = model.context(tokens)
        x = model.embed(tokens, context) if self.is_first else came
        for block in model.blocks:
            x = block(x, context, None)
        return model.norm(x) if self.is_last else x


class Pipelined:
    """Trains a decoder whose layers lie on all processes, by `torch.distributed.pipelining`.

    Every process gives the same micro-batches, all of one shape; `model.parameters()` keeps what
    the process needs. A tied embedding lies on the first and the last process: both add the other's
    gradient to their own.

    Args:
        model: Whole, the same on every process; the layers of others are taken out of it.
        micro_batches: How many each update has.

    Raises:
        ValueError: When the layers are not as many runs of equal length as there are processes.

    References:
        Huang et al. (2019), GPipe; Narayanan et al. (2021), Megatron-LM on GPU clusters, section
        2.2 (1F1B).
    """

    def __init__(
        self, model: Transformer, micro_batches: int, schedule: Literal["gpipe", "1f1b"] = "1f1b"
    ) -> None:
        stages, layers = world_size(), len(model.blocks)
        if layers % stages:
            raise ValueError(f"{layers} layers are not {stages} runs of equal length")
        each = layers // stages
        model.blocks = nn.ModuleList(list(model.blocks)[rank() * each : (rank() + 1) * each])
        self.model, self.run = model, _Run(model)
        if not self.run.is_last:
            model.norm, model.head = nn.Identity(), None
        self.is_tied = model.config.tie_embeddings
        is_read = self.run.is_first or (self.run.is_last and self.is_tied)
        model.embedding.requires_grad_(is_read)
        device = model.embedding.weight.device
        stage = PipelineStage(self.run, rank(), stages, device)
        kind = {"gpipe": ScheduleGPipe, "1f1b": Schedule1F1B}[schedule]
        self.schedule = kind(stage, micro_batches, self._share, scale_grads=False)
        self.targets = 0
        self.device = device

    def backward(self, batch: Batch) -> Tensor:
        """Compute this process's gradients of the mean loss over all targets; return that loss."""
        self.targets = count_targets(batch)
        losses = list[Tensor]()
        inputs = (batch["inputs"],) if self.run.is_first else ()
        self.schedule.step(*inputs, target=batch["targets"], losses=losses, return_outputs=False)
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for share in losses:
            loss += share.detach()
        dist.all_reduce(loss)
        self._add_tied_gradients()
        return loss

    def _share(self, hidden: Float[Tensor, "B T D"], targets: Int[Tensor, "B T"]) -> Tensor:
        """Return a micro-batch's part of the mean over all targets of the update."""
        mean = linear_cross_entropy(hidden, self.model.output_weight, targets)
        return mean * (count_targets({"targets": targets}) / max(1, self.targets))

    def _add_tied_gradients(self) -> None:
        if not self.is_tied or world_size() == 1:
            return
        weight = self.model.embedding.weight
        ends = (0, world_size() - 1)
        if rank() not in ends:
            return
        assert weight.grad is not None
        other, came = ends[rank() == 0], torch.empty_like(weight.grad)
        mine = weight.grad.contiguous()
        for request in dist.batch_isend_irecv(
            [dist.P2POp(dist.isend, mine, other), dist.P2POp(dist.irecv, came, other)]
        ):
            request.wait()
        weight.grad = mine + came
