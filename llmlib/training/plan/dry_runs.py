"""A whole training step without weights, without a GPU and without arithmetic: FLOPs and bytes."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.hardware.memory import tracked_allocations
from llmlib.training.memory.recomputation import Recomputed, recompute
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.adamw import adamw
from llmlib.training.speed.counting import counted_work

PRODUCTS = frozenset({
    "mm", "addmm", "addmm_", "bmm", "baddbmm", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention_for_cpu_backward",
})  # fmt: skip
"""The operations whose FLOPs are counted: all that multiply matrices."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a step computes and holds."""

    flops: int
    """Of products, those that are done twice counted twice."""
    parameter_bytes: int
    peak_bytes: int
    """The most bytes of tensors at once, from the making of the model to the end of its second
    update; the first one's gradients meet no optimizer state yet."""


def dry_run(
    config: ModelConfig,
    batch_size: int,
    seq_len: int,
    *,
    recomputed: Recomputed | None = None,
    fake: bool = True,
) -> DryRun:
    r"""Go through two updates with AdamW on tensors that have shapes and no numbers.

    Of a plain decoder the second step's FLOPs are `decoder_training_flops` with causal attention,
    $3 F$, and the scores that the fused kernel makes again on its way back, $2 L H K$ a pair of
    query and key; blocks that run again add their forward pass.

    Args:
        fake: Whether tensors lack numbers; False does the same step for real, to compare.

    Raises:
        ValueError: If the model asks for numbers, as routing by experts does.

    Example:
        >>> config = ModelConfig(
        ...     vocab_size=32_000, d_model=4096, n_layers=2, n_heads=32, d_ff=11_008,
        ...     max_seq_len=2048, tie_embeddings=False,
        ... )
        >>> found = dry_run(config, 1, 2048)  # two of LLaMA-7B's layers
        >>> round(found.flops / 1e12, 1), round(found.peak_bytes / 1e9, 1)
        (6.8, 10.7)

    References:
        PyTorch, torch._subclasses.fake_tensor: what operations return, without doing them.
    """
    if fake and config.n_experts:
        raise ValueError("experts are chosen by numbers, of which a dry run has none")
    with FakeTensorMode() if fake else nullcontext(), tracked_allocations() as memory:
        model = Transformer(config)
        if recomputed:
            recompute(model, recomputed)
        optimizer = adamw(model, lr=1e-3)
        parameter_bytes = sum(p.nbytes for p in model.parameters())
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.long)
        batch = {"inputs": tokens, "targets": tokens}
        next_token_loss(model, batch).backward()
        optimizer.step()  # makes the optimizer's state, which the second step's gradients meet
        optimizer.zero_grad()
        with counted_work() as found:
            next_token_loss(model, batch).backward()
        optimizer.step()
    return DryRun(
        flops=sum(work.flops for name, work in found.items() if name in PRODUCTS),
        parameter_bytes=parameter_bytes,
        peak_bytes=memory.peak_bytes,
    )
