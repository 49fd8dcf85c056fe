"""A training step that only goes through the motions: shapes without numbers, and their bytes."""

from typing import get_args

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.hardware.memory import tracked_allocations
from llmlib.training.memory.recomputation import Recomputed, recompute
from llmlib.training.objectives.next_token import next_token_loss


def traced_step(
    config: ModelConfig,
    batch_size: int,
    seq_len: int,
    *,
    bfloat16: bool = False,
    recomputed: Recomputed | None = None,
    segment: int = 1,
) -> tuple[int, int]:
    """Return the bytes that a step keeps for its backward pass, and the most beside parameters.

    The step runs on tensors that have shapes and no numbers, and the memory meter counts them as
    it would count real ones. Two depths are run, and since each further layer adds the same, the
    configuration's own depth follows.

    Raises:
        ValueError: If the model asks for numbers, as routing by experts does, or a setting is out
            of its range.

    Example:
        >>> config = ModelConfig(
        ...     vocab_size=5, d_model=4, n_layers=9, n_heads=1, max_seq_len=3, mixer="mamba"
        ... )
        >>> kept, peak = traced_step(config, 1, 3)
        >>> kept < peak
        True
    """
    if config.n_experts or config.position == "relative":
        what = "experts" if config.n_experts else "position='relative'"
        raise ValueError(
            f"the memory of this configuration with {what} is not known without its numbers: "
            "measure a step of a smaller one by tracked_allocations"
        )
    require_step(batch_size, seq_len, recomputed, segment)
    period = max(1, config.full_every) * segment
    shallow = period + config.n_layers % period  # both depths end as the whole model does
    deep = shallow + period
    first = _measure(
        config, min(shallow, config.n_layers), batch_size, seq_len, bfloat16, recomputed, segment
    )
    if shallow >= config.n_layers:
        return first
    second = _measure(config, deep, batch_size, seq_len, bfloat16, recomputed, segment)
    periods = (config.n_layers - shallow) // period
    kept, most = (a + periods * (b - a) for a, b in zip(first, second, strict=True))
    return kept, most


def require_step(
    batch_size: int, seq_len: int, recomputed: Recomputed | None, segment: int
) -> None:
    """Check what is asked of a step.

    Raises:
        ValueError: When a count is below 1, a part unknown, or a segment of other than blocks.

    Example:
        >>> require_step(3, 61, "blocks", 2)
    """
    if not (batch_size >= 1 and seq_len >= 1 and segment >= 1):
        raise ValueError(
            f"batch_size={batch_size}, seq_len={seq_len} and segment={segment} must be at least 1"
        )
    if recomputed is not None and recomputed not in get_args(Recomputed):
        raise ValueError(
            f"recomputed={recomputed!r} is unknown: None or one of {get_args(Recomputed)}"
        )
    if segment > 1 and recomputed != "blocks":
        raise ValueError(f"segment={segment} needs recomputed='blocks': only blocks run as one")


def _measure(
    config: ModelConfig,
    n_layers: int,
    batch_size: int,
    seq_len: int,
    bfloat16: bool,
    recomputed: Recomputed | None,
    segment: int,
) -> tuple[int, int]:
    with FakeTensorMode(), tracked_allocations() as memory:
        model = Transformer(config.replace(n_layers=n_layers))
        if recomputed:
            recompute(model, recomputed, segment=segment)
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.long)
        before = memory.peak_bytes = memory.current_bytes
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = next_token_loss(model, {"inputs": tokens, "targets": tokens})
        kept = memory.current_bytes - before
        loss.backward()
        return kept, memory.peak_bytes - before
