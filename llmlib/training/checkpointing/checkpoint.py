"""Checkpoints: all that a run needs to go on as if nothing had happened, or nothing at all.

A checkpoint is a folder. It is written under a hidden name, flushed to the disk and renamed, so a
folder named `step_00000100` is whole, whenever the machine stopped.

    step_00000100/
      model.safetensors        parameters and buffers
      optimizer.safetensors    running means, one tensor per parameter and kind
      rank_0.safetensors       states of the random generators of process 0
      rank_0.json              where process 0 is in the data, and the generators' counters
      checkpoint.json          step, configurations, progress, sizes of the files

Instead of the first two there may be pieces, of which each process wrote its own (`pieces`).
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from llmlib.training.checkpointing.files import (
    FORMAT,
    MANIFEST,
    flush,
    read_manifest,
    read_part,
    read_tensors,
    remove,
    remove_old,
    step_of,
)
from llmlib.training.checkpointing.named_state import (
    AnyOptimizer,
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
)
from llmlib.training.checkpointing.pieces import PIECES_INDEX, read_pieces
from llmlib.training.checkpointing.random_state import random_state, set_random_state
from llmlib.training.distributed import everyone, rank, world_size


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says besides its tensors."""

    step: int
    """Updates done."""
    model_config: dict[str, Any]
    config: dict[str, Any]
    progress: dict[str, Any]
    """Tokens seen, seconds trained and other numbers to continue from."""
    score: float | None
    """The lower, the better; None when the model was not evaluated at this step."""
    loader: dict[str, Any]
    """State of this process's data loader."""


def save(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    model: nn.Module,
    optimizer: AnyOptimizer,
    keep: int = 2,
) -> Path:
    """Write a checkpoint, then remove old ones; every process of a run must call this.

    What has its name already, whole or not, is replaced.

    Args:
        folder: The folder that holds the checkpoints; the processes must share it.
        keep: How many of the newest to keep; the best one is kept besides.

    Raises:
        OSError: When it could not be written; earlier checkpoints are then as they were.
    """
    final, partial = places(folder, checkpoint)
    tensors = {
        "model.safetensors": model_tensors(model),
        "optimizer.safetensors": optimizer_tensors(model, optimizer),
    }
    for stage in (
        lambda: make_empty(partial),
        lambda: write_files(partial, checkpoint, tensors if rank() == 0 else {}),
        lambda: finish(partial, final, checkpoint, tensors),
    ):
        on_all_processes(stage, final, partial)
    if rank() == 0:
        remove_old(folder, keep)
    return final


def places(folder: Path, checkpoint: Checkpoint) -> tuple[Path, Path]:
    """Return what a checkpoint's folder is called when it is whole, and while it is written."""
    name = f"step_{checkpoint.step:08d}"
    return folder / name, folder / f".{name}.partial"


def on_all_processes(stage: Callable[[], object], final: Path, partial: Path) -> None:
    """Do a part of the writing on every process; when one cannot, all of them say so.

    A process whose disk is full must not leave the others waiting for it.

    Raises:
        OSError: When one could not; what there was of the checkpoint is removed.
    """
    failure = None
    try:
        stage()
    except (OSError, SafetensorError, CheckpointException) as error:
        failure = error
    if not everyone(failure is None):
        if rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"the checkpoint {final} could not be written "
            f"({failure or 'by another process'}): earlier ones are whole; make room and run "
            "the same command again"
        ) from failure


def load(
    path: Path,
    *,
    model: nn.Module,
    optimizer: AnyOptimizer,
    model_config: Mapping[str, Any],
    config: Mapping[str, Any],
) -> Checkpoint:
    """Put a run back to where it was: model, optimizer and random generators, all in place.

    A checkpoint of pieces may be loaded by another number of processes. Then all take the first
    one's place in the data, which must not depend on the process, and keep their own generators.

    Raises:
        ValueError: When the checkpoint is cut short, or belongs to another configuration than
            `model_config` and `config` say.
    """
    manifest = read_manifest(path)
    if step_of(path) not in (None, manifest["step"]):
        raise ValueError(
            f"{path} holds step {manifest['step']}: give it its name back or remove it"
        )
    _require_equal(path, "model", manifest["model_config"], model_config)
    _require_equal(path, "run", manifest["config"], config)
    is_sharded = PIECES_INDEX in manifest["sizes"]
    is_as_many = manifest["world_size"] == world_size()
    if not (is_sharded or is_as_many):
        raise ValueError(
            f"{path} was written by {manifest['world_size']} processes, this run has "
            f"{world_size()}: start as many, so that the data continue where they were"
        )
    file = path / (PIECES_INDEX if is_sharded else "optimizer.safetensors")
    try:
        if is_sharded:
            read_pieces(path, model, optimizer)
        else:
            load_model(path, model)
            load_optimizer_tensors(model, optimizer, read_tensors(file, manifest))
    except ValueError as error:
        raise ValueError(f"{file} does not fit this run: {error}") from error
    name = f"rank_{rank() if is_as_many else 0}"
    own = read_part(path / f"{name}.json")
    if is_as_many:  # otherwise each goes on with the generators that it has
        set_random_state(read_tensors(path / f"{name}.safetensors", manifest), own["random"])
    known = ("step", "model_config", "config", "progress", "score")
    return Checkpoint(**{key: manifest[key] for key in known}, loader=own["loader"])


def load_model(path: Path, model: nn.Module) -> None:
    """Fill a model of the configuration `read_manifest(path)["model_config"]` from a checkpoint.

    Raises:
        ValueError: When the checkpoint is cut short or its tensors do not fit the model.
    """
    manifest = read_manifest(path)
    file = path / (PIECES_INDEX if PIECES_INDEX in manifest["sizes"] else "model.safetensors")
    try:
        if file.name == PIECES_INDEX:
            read_pieces(path, model)
        else:
            load_model_tensors(model, read_tensors(file, manifest))
    except ValueError as error:
        raise ValueError(f"{file} cannot be loaded: {error}") from error


def make_empty(partial: Path) -> None:
    """Make the folder in which a checkpoint is written, empty of what a crash left there."""
    if rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)


def write_files(
    partial: Path, checkpoint: Checkpoint, tensors: Mapping[str, dict[str, Tensor]]
) -> None:
    """Write this process's generators and place in the data, and files of tensors besides."""
    generators, counters = random_state()
    own = f"rank_{rank()}"
    for name, content in {**tensors, f"{own}.safetensors": generators}.items():
        save_file(content, partial / name)
        flush(partial / name)
    text = json.dumps({"loader": checkpoint.loader, "random": counters})
    (partial / f"{own}.json").write_text(text, encoding="utf-8")
    flush(partial / f"{own}.json")


def finish(
    partial: Path, final: Path, checkpoint: Checkpoint, tensors: Mapping[str, dict[str, Tensor]]
) -> None:
    """Write the manifest and give the folder its name: from here on it is a checkpoint."""
    if rank() != 0:
        return
    manifest = {
        "format": FORMAT,
        "step": checkpoint.step,
        "world_size": world_size(),
        "progress": checkpoint.progress,
        "score": checkpoint.score,
        "config": checkpoint.config,
        "model_config": checkpoint.model_config,
        "tensors": {name: len(content) for name, content in tensors.items()},
        "sizes": {file.name: file.stat().st_size for file in sorted(partial.iterdir())},
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    flush(partial / MANIFEST)
    flush(partial)
    remove(final)
    partial.rename(final)
    flush(final.parent)


def _require_equal(
    path: Path, what: str, saved: Mapping[str, Any], current: Mapping[str, Any]
) -> None:
    # Through JSON, so that tuples compare as the lists they were saved as.
    now = json.loads(json.dumps(current))
    names = sorted(saved.keys() | now.keys())
    different = [
        f"{name}={saved.get(name)!r} (now {now.get(name)!r})"
        for name in names
        if saved.get(name) != now.get(name)
    ]
    if different:
        raise ValueError(
            f"{path} was written with another {what} configuration: {', '.join(different)}; "
            "set it back, or start in a new folder"
        )
