"""The capstone's middle: build the model, train it, and continue where it was stopped."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llmlib.architecture.transformer import Transformer
from llmlib.capstone.prepare import Prepared
from llmlib.capstone.presets import Preset
from llmlib.core.hardware.machine import matmul_rate
from llmlib.core.hardware.memory import MemoryMeter
from llmlib.core.seeding import seed_everything
from llmlib.data.stream.loader import TokenLoader
from llmlib.training.config import accumulation
from llmlib.training.distributed import rank, world_size
from llmlib.training.metrics import read_metrics
from llmlib.training.precision import resolve_precision
from llmlib.training.trainer import Trainer, TrainResult

HELD_OUT_BATCHES = 8


class InterruptedRunError(Exception):
    """The run was stopped before its last step; the same command continues it."""


def build_model(preset: Preset, seed: int, device: torch.device) -> Transformer:
    """Build the untrained model; the same seed gives the same weights.

    Args:
        preset: The run's preset.
        seed: Start of the random generator.
        device: Where to put it.

    Returns:
        The model.
    """
    seed_everything(seed)
    return Transformer(preset.model).to(device)


def pretrain(
    preset: Preset,
    prepared: Prepared,
    folder: Path,
    *,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Train to the last step, from the newest checkpoint if there is one.

    Under torchrun every process calls this; each reads its share of every batch.

    Args:
        preset: The run's preset.
        prepared: Tokenizer and token shards.
        folder: Where checkpoints and metrics go.
        seed: Decides weights, order of the data and dropout.
        device: This process's device.

    Returns:
        What the report says of the training: steps, tokens, seconds, speed, memory.

    Raises:
        InterruptedRunError: When Ctrl-C stopped it; a checkpoint was written.
    """
    began = time.perf_counter()
    peak = _peak(preset, device)
    trainer = _trainer(preset, prepared, folder, seed, device, peak)
    with MemoryMeter(interval_s=0.05) as memory:
        result = trainer.run()
    if not result.finished:
        raise InterruptedRunError(
            f"stopped after step {result.step} of {preset.train.steps}: the same command continues"
        )
    return _summary(preset, result, folder, peak, memory.peak_bytes, began, device)


def _trainer(
    preset: Preset, prepared: Prepared, folder: Path, seed: int, device: torch.device, peak: float
) -> Trainer:
    together = preset.micro_batch * world_size()
    # As many held-out windows at once as there are, in equal shares.
    windows = (prepared.held_out.n_tokens - 1) // preset.seq_len - 1
    watched = min(together, windows // world_size() * world_size())
    batches, held_out = (
        TokenLoader(
            source,
            batch_size=size,
            seq_len=preset.seq_len,
            seed=seed,
            rank=rank(),
            world_size=world_size(),
        )
        for source, size in ((prepared.train, together), (prepared.held_out, watched))
    )
    accumulate = accumulation(
        preset.batch_tokens,
        micro_batch=preset.micro_batch,
        seq_len=preset.seq_len,
        world_size=world_size(),
    )
    n_watched = min(HELD_OUT_BATCHES, held_out.batches_per_epoch)
    return Trainer(
        build_model(preset, seed, device),
        batches,
        replace(preset.train, seed=seed, accumulate=accumulate),
        folder,
        model_config=preset.model.to_dict(),
        held_out=[next(held_out) for _ in range(n_watched)],
        flops_per_token=preset.flops_per_token,
        peak_flops=peak,
    )


def _summary(
    preset: Preset,
    result: TrainResult,
    folder: Path,
    peak: float,
    memory_bytes: int,
    began: float,
    device: torch.device,
) -> dict[str, Any]:
    speed = result.tokens / result.seconds
    lines = read_metrics(folder / "metrics.jsonl") if rank() == 0 else []
    return {
        "checkpoint": str(result.checkpoint.relative_to(folder)),
        "steps": result.step,
        "tokens": result.tokens,
        "training_seconds": round(result.seconds, 1),
        "wall_seconds_of_last_start": round(time.perf_counter() - began, 1),
        "tokens_per_second": round(speed, 1),
        "flops_per_token": preset.flops_per_token,
        "peak_flops_per_second": peak * world_size(),
        "mfu": round(speed * preset.flops_per_token / (peak * world_size()), 4),
        "peak_memory_bytes": memory_bytes,
        "precision": str(resolve_precision(preset.train.precision, device)).removeprefix("torch."),
        "world_size": world_size(),
        "last_losses": [round(line["loss"], 4) for line in lines[-5:]],
        "held_out_loss": result.held_out_loss,
    }


def _peak(preset: Preset, device: torch.device) -> float:
    """Measure the device's matrix products in the precision of the run."""
    dtype = resolve_precision(preset.train.precision, device)
    size = 8192 if device.type == "cuda" else 1024
    return matmul_rate(dtype, size=size, seconds=0.5, device=str(device))
