"""The capstone's middle: build the model, train it, and continue where it was stopped."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.counts import decoder_training_flops
from llmlib.architecture.transformer import Transformer
from llmlib.capstone.prepare import Prepared
from llmlib.core.hardware.machine import matmul_rate
from llmlib.core.hardware.memory import MemoryMeter
from llmlib.core.seeding import seed_everything
from llmlib.data.stream.loader import TokenLoader
from llmlib.training.config import TrainConfig, accumulation
from llmlib.training.distributed import copies, rank, world_size
from llmlib.training.metrics import read_metrics
from llmlib.training.precision import resolve_precision
from llmlib.training.trainer import Trainer

HELD_OUT_BATCHES = 8


class InterruptedRunError(Exception):
    """The run was stopped before its last step; the same command continues it."""


def build_model(config: ModelConfig, seed: int, device: torch.device) -> Transformer:
    """Build the untrained model; the same seed gives the same weights."""
    seed_everything(seed)
    return Transformer(config).to(device)


def pretrain(
    config: ModelConfig,
    train: TrainConfig,
    prepared: Prepared,
    folder: Path,
    *,
    batch_size: int,
    micro_batch: int,
    device: torch.device,
) -> dict[str, Any]:
    """Train to the last step, from the newest checkpoint if there is one.

    Under torchrun every process calls this; each reads its share of every batch.

    Args:
        config: The model; windows are as long as it reads.
        train: How it is trained; the seed decides weights, order of the data and dropout.
        prepared: Tokenizer and token shards.
        folder: Where checkpoints and metrics go.
        batch_size: Sequences in one update, over all processes.
        micro_batch: Sequences that one process computes at once.
        device: This process's device.

    Returns:
        What the report says of the training: steps, tokens, seconds, speed, memory.

    Raises:
        InterruptedRunError: When Ctrl-C stopped it; a checkpoint was written.
    """
    began = time.perf_counter()
    seq_len = config.max_seq_len
    dtype = resolve_precision(train.precision, device)
    # The rate of matrix products that the device reaches is what the speed is compared with.
    size = 8192 if device.type == "cuda" else 1024
    peak = matmul_rate(dtype, size=size, seconds=0.5, device=str(device))
    flops_per_token = decoder_training_flops(config, 1, seq_len) / seq_len
    together = copies(train.parallel, train.tensor_size)
    readers = world_size() // together
    accumulate = accumulation(
        batch_size * seq_len, micro_batch=micro_batch, seq_len=seq_len, world_size=readers
    )
    batches, held_out = _batches(
        prepared, seq_len, micro_batch * readers, train.seed, rank() // together, readers
    )
    trainer = Trainer(
        build_model(config, train.seed, device),
        batches,
        replace(train, accumulate=accumulate),
        folder,
        model_config=config.to_dict(),
        held_out=[next(held_out) for _ in range(min(HELD_OUT_BATCHES, held_out.batches_per_epoch))],
        flops_per_token=flops_per_token,
        peak_flops=peak,
    )
    with MemoryMeter(interval_s=0.05) as memory:
        result = trainer.run()
    if not result.finished:
        raise InterruptedRunError(
            f"stopped after step {result.step} of {train.steps}: the same command continues"
        )
    speed = result.tokens / result.seconds
    lines = read_metrics(folder / "metrics.jsonl") if rank() == 0 else []
    return {
        "checkpoint": str(result.checkpoint.relative_to(folder)),
        "steps": result.step,
        "tokens": result.tokens,
        "training_seconds": round(result.seconds, 1),
        "wall_seconds_of_last_start": round(time.perf_counter() - began, 1),
        "tokens_per_second": round(speed, 1),
        "flops_per_token": flops_per_token,
        "peak_flops_per_second": peak * world_size(),
        "mfu": round(speed * flops_per_token / (peak * world_size()), 4),
        "peak_memory_bytes": memory.peak_bytes,
        "precision": str(dtype).removeprefix("torch."),
        "world_size": world_size(),
        "last_losses": [round(line["loss"], 4) for line in lines[-5:]],
        "held_out_loss": result.held_out_loss,
    }


def _batches(
    prepared: Prepared, seq_len: int, together: int, seed: int, reader: int, readers: int
) -> tuple[TokenLoader, TokenLoader]:
    """Loaders of the training part, so many windows at once, and of the held-out part."""
    # As many held-out windows at once as there are, in equal shares.
    windows = (prepared.held_out.n_tokens - 1) // seq_len - 1
    watched = min(together, windows // readers * readers)
    train, held_out = (
        TokenLoader(
            source,
            batch_size=size,
            seq_len=seq_len,
            seed=seed,
            rank=reader,
            world_size=readers,
        )
        for source, size in ((prepared.train, together), (prepared.held_out, watched))
    )
    return train, held_out
