"""The training objective: mean cross-entropy of the next token, without keeping the logits."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llmlib.architecture.context import Layout
from llmlib.architecture.encoder_decoder import EncoderDecoder
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.training.objectives.auxiliary import add_auxiliary

LanguageModel = Transformer | EncoderDecoder


def hidden_states(model: LanguageModel, batch: Batch) -> Float[Tensor, "B T D"]:
    """Return a model's last hidden states where a batch has its targets.

    A decoder takes `documents` into account where they are there, and `prefix_lengths` if its mask
    is that of a prefix decoder.
    """
    if isinstance(model, EncoderDecoder):
        return model.hidden(
            batch["encoder_inputs"], batch["decoder_inputs"], batch["encoder_lengths"]
        )
    sees_prefix = model.config.mask == "prefix"
    layout = Layout(
        prefix_lengths=batch.get("prefix_lengths") if sees_prefix else None,
        documents=batch.get("documents"),
    )
    return model.hidden(batch["inputs"], layout=layout)


def next_token_loss(model: LanguageModel, batch: Batch) -> Float[Tensor, ""]:
    r"""Return the mean negative log-likelihood of a batch's targets, in nats.

    $L = -\tfrac1n \sum_{b,t} \log p(y_{b,t} \mid x_{b,\le t})$ over the n targets that count. While
    a model with experts trains, its load-balancing loss is added by `add_auxiliary`.

    References:
        Zhao et al. (2023), A Survey of Large Language Models, section 4.2.3, equation 4.
    """
    loss = linear_cross_entropy(hidden_states(model, batch), model.output_weight, batch["targets"])
    if isinstance(model, EncoderDecoder) or not (model.training and model.config.n_experts):
        return loss
    balance = model.balance_loss()
    return loss if balance is None else add_auxiliary(loss, balance)


def linear_cross_entropy(
    hidden: Float[Tensor, "*rows D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "*rows"],
    chunk: int = 512,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of `hidden @ weight.T` against the targets; 0 if none counts.

    The logits of a vocabulary are the largest tensor of a small model's step. Here they are made
    `chunk` rows at a time, turned into their own gradient while they are still in the processor's
    cache, multiplied back, and forgotten: the same products, a fraction of the memory.

    Raises:
        ValueError: If there is not one target a row.

    Example:
        >>> linear_cross_entropy(torch.zeros(1, 2), torch.zeros(8, 2), torch.tensor([5]))
        tensor(2.0794)

    References:
        Hsu et al. (2024), Liger Kernel, section 3.2 (the fused linear cross-entropy on GPUs).
    """
    if hidden.shape[:-1] != targets.shape or chunk < 1:
        raise ValueError(
            f"targets {tuple(targets.shape)} for hidden states {tuple(hidden.shape)}: give one a "
            f"row, in the same order; chunk={chunk} must be at least 1"
        )
    flat = hidden.flatten(0, -2)  # [rows, D]
    if torch.compiler.is_compiling() or hidden.is_cuda:
        logits = F.linear(flat, weight).float()
        total = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")
        return total / (targets != IGNORE).sum().clamp_min(1)
    device = hidden.device.type
    if torch.is_autocast_enabled(device):  # what autocast does for F.linear
        dtype = torch.get_autocast_dtype(device)
        flat, weight = flat.to(dtype), weight.to(dtype)
    return _LinearCrossEntropy.apply(flat, weight, targets.flatten(), chunk)  # pyright: ignore[reportReturnType]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        needs_grad = hidden.requires_grad or weight.requires_grad
        n_counted = max(1, int((targets != IGNORE).sum()))
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if needs_grad else None
        # Sums over many rows: kept in float32 even when the factors are bfloat16.
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if needs_grad else None
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            logits = F.linear(hidden[rows], weight).float()  # [chunk, V]
            loss, grad = _cross_entropy_and_gradient(logits, targets[rows], n_counted)
            total += loss
            if grad_hidden is not None and grad_weight is not None:
                grad = grad.to(hidden.dtype)
                torch.mm(grad, weight, out=grad_hidden[rows])
                if weight.dtype == torch.float32:
                    grad_weight.addmm_(grad.T, hidden[rows])
                else:
                    grad_weight += grad.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_hidden, grad_weight = ctx.saved_tensors
        scaled_hidden = grad_hidden * grad.to(grad_hidden.dtype)
        return scaled_hidden, (grad_weight * grad).to(ctx.weight_dtype), None, None


def _cross_entropy_and_gradient(
    logits: Tensor, targets: Tensor, n_counted: int
) -> tuple[Tensor, Tensor]:
    """Return the loss's share of some rows and its gradient, which overwrites the logits."""
    counts = targets != IGNORE
    index = targets.where(counts, 0).unsqueeze(-1)
    logits -= logits.amax(dim=-1, keepdim=True)
    chosen = logits.gather(-1, index)
    logits.exp_()
    partition = logits.sum(dim=-1, keepdim=True)
    loss = ((partition.log() - chosen) * counts.unsqueeze(-1)).sum() / n_counted
    weights = counts.unsqueeze(-1).to(logits.dtype) / n_counted  # [rows, 1]
    logits *= weights / partition
    logits.scatter_add_(-1, index, -weights)
    return loss, logits
