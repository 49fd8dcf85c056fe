"""Cross-entropy without the logits: made a few rows at a time, used up, and forgotten."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llmlib.architecture.exact import wide, wide_type
from llmlib.core.batch import IGNORE


class LossWithZ(NamedTuple):
    """What a step learns from its logits, and the part of it that is no loss of text."""

    total: Tensor
    """Mean cross-entropy and z-loss together; this one has the gradient."""
    z_loss: Tensor
    """The z-loss alone, its weight included, without gradient."""


def linear_cross_entropy(
    hidden: Float[Tensor, "*rows D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "*rows"],
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    r"""Return the mean cross-entropy of `hidden @ weight.T` against the targets; 0 if none counts.

    $L = \tfrac1n \sum_i (\log Z_i - z_{i, y_i})$ over the n targets that count, with the logits
    $z_i = W h_i$ and $Z_i = \sum_v e^{z_{iv}}$.

    The logits of a vocabulary are the largest tensor of a small model's step. Here they are made
    `chunk` rows at a time, turned into their own gradient while they are still in the processor's
    cache, multiplied back, and forgotten: the same products, a fraction of the memory.

    Args:
        chunk: Rows at once. Default: `rows_at_once`.

    Raises:
        ValueError: If there is not one target a row.

    Example:
        >>> linear_cross_entropy(torch.zeros(1, 2), torch.zeros(8, 2), torch.tensor([5]))
        tensor(2.0794)

    References:
        Hsu et al. (2024), Liger Kernel, section 3.2 (the fused linear cross-entropy on GPUs).
    """
    return cross_entropy_with_z(hidden, weight, targets, 0.0, chunk).total


def cross_entropy_with_z(
    hidden: Float[Tensor, "*rows D"],
    weight: Float[Tensor, "V D"],
    targets: Int[Tensor, "*rows"],
    z_weight: float,
    chunk: int | None = None,
) -> LossWithZ:
    r"""Return `linear_cross_entropy` plus the z-loss, which keeps the normalizer near one.

    $L + \tfrac{\zeta}{n} \sum_i \log^2 Z_i$ over the targets that count

    Args:
        z_weight: $\zeta$; PaLM's is 1e-4.
        chunk: Rows at once. Default: `rows_at_once`.

    Raises:
        ValueError: If there is not one target a row.

    Example:
        >>> zeros = torch.zeros(1, 2), torch.zeros(8, 2)
        >>> cross_entropy_with_z(*zeros, torch.tensor([5]), 1.0).z_loss  # log(8) squared
        tensor(4.3241)

    References:
        Chowdhery et al. (2022), PaLM, section 5.
    """
    if hidden.shape[:-1] != targets.shape or (chunk is not None and chunk < 1):
        raise ValueError(
            f"targets {tuple(targets.shape)} for hidden states {tuple(hidden.shape)}: give one a "
            f"row, in the same order; chunk={chunk} must be at least 1"
        )
    flat = hidden.flatten(0, -2)  # [rows, D]
    if torch.compiler.is_compiling():  # the compiler fuses the plain form by itself
        return _whole(flat, weight, targets.flatten(), z_weight)
    device = hidden.device.type
    if torch.is_autocast_enabled(device):  # what autocast does for F.linear
        dtype = torch.get_autocast_dtype(device)
        flat, weight = flat.to(dtype), weight.to(dtype)
    rows = rows_at_once(len(flat), *weight.shape, on_processor=device == "cpu")
    learns = torch.is_grad_enabled()  # inside `apply` it is off
    return LossWithZ(
        *_LinearCrossEntropy.apply(flat, weight, targets.flatten(), z_weight, chunk or rows, learns)  # pyright: ignore[reportGeneralTypeIssues]
    )


def rows_at_once(n_rows: int, vocab_size: int, d_model: int, *, on_processor: bool) -> int:
    r"""Return how many rows of logits are made at once.

    On a processor 512, enough for the matrix product's best speed. On an accelerator as many as
    fill no more memory than the hidden states do, $c V \le n D$, but 1024 at least, to keep it
    busy.

    Example:
        >>> rows_at_once(65_536, 32_000, 4096, on_processor=False)
        8388
    """
    return 512 if on_processor else max(1024, n_rows * d_model // vocab_size)


def _whole(flat: Tensor, weight: Tensor, targets: Tensor, z_weight: float) -> LossWithZ:
    logits = wide(F.linear(flat, weight))
    counts = targets != IGNORE
    n_counted = counts.sum().clamp_min(1)
    loss = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum") / n_counted
    if not z_weight:
        return LossWithZ(loss, torch.zeros_like(loss))
    squares = logits.logsumexp(dim=-1).square() * counts
    z_loss = z_weight * squares.sum() / n_counted
    return LossWithZ(loss + z_loss, z_loss.detach())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        z_weight: float,
        chunk: int,
        learns: bool,
    ) -> tuple[Tensor, Tensor]:
        exact = wide_type(hidden.dtype)
        n_counted = (targets != IGNORE).sum().clamp_min(1).to(exact)
        # float16 would flush what is divided by so many targets, before a loss scale could lift it:
        # there the division waits for the scale.
        lift = n_counted if hidden.dtype == torch.float16 else torch.ones_like(n_counted)
        total, z_loss = hidden.new_zeros((), dtype=exact), hidden.new_zeros((), dtype=exact)
        grad_hidden = torch.empty_like(hidden) if learns and hidden.requires_grad else None
        # Sums over many rows: kept in float32 even when the factors are bfloat16.
        grad_weight = (
            torch.zeros_like(weight, dtype=exact) if learns and weight.requires_grad else None
        )
        room = hidden.new_empty(min(chunk, len(hidden)), len(weight))  # [chunk, V], used again
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            logits = torch.mm(hidden[rows], weight.T, out=room[: len(hidden) - start])
            loss, z_part, grad = _loss_and_gradient(
                logits.to(exact), targets[rows], n_counted, z_weight, lift
            )
            total += loss
            z_loss += z_part
            grad = logits.copy_(grad)  # where the factors are 32 bits wide it lies there already
            if grad_hidden is not None:
                torch.mm(grad, weight, out=grad_hidden[rows])
            if grad_weight is not None and weight.dtype == exact:
                grad_weight.addmm_(grad.T, hidden[rows])
            elif grad_weight is not None:
                grad_weight += grad.T @ hidden[rows]
        ctx.save_for_backward(grad_hidden, grad_weight, lift)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(z_loss)
        return total + z_loss if z_weight else total, z_loss

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        grad_hidden, grad_weight, lift = ctx.saved_tensors
        grad = grad / lift
        if grad_hidden is not None and grad_hidden.dtype == torch.float16:
            grad_hidden = (wide(grad_hidden) * grad).to(grad_hidden.dtype)
        elif grad_hidden is not None:
            grad_hidden = grad_hidden * grad.to(grad_hidden.dtype)
        if grad_weight is not None:
            grad_weight = (grad_weight * grad).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None, None, None


def _loss_and_gradient(
    logits: Tensor, targets: Tensor, n_counted: Tensor, z_weight: float, lift: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two losses' shares of some rows and `lift` times the gradient, over the logits."""
    counts = (targets != IGNORE).unsqueeze(-1)  # [rows, 1]
    index = targets.unsqueeze(-1).where(counts, 0)
    highest = logits.amax(dim=-1, keepdim=True)
    logits -= highest
    chosen = logits.gather(-1, index)
    logits.exp_()
    partition = logits.sum(dim=-1, keepdim=True)
    loss = ((partition.log() - chosen) * counts).sum() / n_counted
    weights = counts.to(logits.dtype) / n_counted
    scale, z_loss = weights / partition, torch.zeros_like(loss)
    if z_weight:
        normalizer = partition.log() + highest
        z_loss = z_weight * (normalizer.square() * weights).sum()
        scale = scale * (1 + 2 * z_weight * normalizer)
    logits *= scale * lift
    logits.scatter_add_(-1, index, -weights * lift)
    return loss, z_loss, logits
