"""The folders of checkpoints: which there are, whether they are whole, which may go."""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llmlib.core.files import read_json

MANIFEST = "checkpoint.json"
_NAME = re.compile(r"step_(\d{8,})")
FORMAT = 1
_TYPES: dict[str, Any] = {
    "step": int,
    "world_size": int,
    "progress": dict,
    "score": int | float | None,
    "config": dict,
    "model_config": dict,
    "tensors": dict,
    "sizes": dict,
}


def checkpoints(folder: Path) -> list[Path]:
    """List the finished checkpoints of a run, oldest first; none where the folder is missing.

    Other folders do not count: copies under another name, or without `checkpoint.json`.
    """
    found = [path.parent for path in folder.glob(f"step_*/{MANIFEST}") if path.is_file()]
    steps = {path: step for path in found if (step := step_of(path)) is not None}
    return sorted(steps, key=lambda path: steps[path])


def step_of(path: Path) -> int | None:
    """Return the step that a checkpoint's name says, None if it is another name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def latest(folder: Path) -> Path | None:
    """Return the newest finished checkpoint of a run, if there is one."""
    found = checkpoints(folder)
    return found[-1] if found else None


def best(folder: Path) -> Path | None:
    """Return the checkpoint with the lowest score, if any has one."""
    scores = [(read_manifest(path)["score"], path) for path in checkpoints(folder)]
    return min(((score, path) for score, path in scores if score is not None), default=(0, None))[1]


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what a checkpoint's `checkpoint.json` says, and check that its files are whole.

    Raises:
        ValueError: When a file is missing, cut short or from another format, or the manifest lacks
            a key or has a value of another type there.
    """
    manifest = read_part(path / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise ValueError(
            f"{path / MANIFEST} has format {manifest.get('format')}, this version reads {FORMAT}"
        )
    _check_keys(path / MANIFEST, manifest)
    for name, size in manifest["sizes"].items():
        file = path / name
        found = file.stat().st_size if file.exists() else 0
        if found != size:
            raise _damaged(file, f"holds {found} of its {size} bytes")
    return manifest


def read_tensors(file: Path, manifest: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read the tensors of one of a checkpoint's files.

    Raises:
        ValueError: When the file is not as it was written.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise _damaged(file, f"cannot be read ({error})") from error
    expected = manifest["tensors"].get(file.name, len(tensors))
    if len(tensors) != expected:
        raise _damaged(file, f"holds {len(tensors)} of its {expected} tensors")
    return tensors


def read_part(file: Path) -> dict[str, Any]:
    """Read a JSON file of a checkpoint.

    Raises:
        ValueError: When it is missing or not whole, with what to do about it.
    """
    try:
        return read_json(file)
    except ValueError as error:
        raise _damaged(file, f"cannot be read ({error})") from error


def _check_keys(file: Path, manifest: Mapping[str, Any]) -> None:
    for key, kind in _TYPES.items():
        if key not in manifest:
            raise _damaged(file, f"lacks {key!r}")
        if not isinstance(manifest[key], kind):
            raise _damaged(file, f"has {key}={manifest[key]!r}, which is of another type")
    for key in ("tensors", "sizes"):
        for name, number in manifest[key].items():
            if not isinstance(number, int):
                raise _damaged(file, f"has {key}[{name!r}]={number!r}, which is no whole number")


def _damaged(file: Path, what: str) -> ValueError:
    return ValueError(
        f"{file} {what}: remove the folder {file.parent} to continue from an earlier checkpoint, "
        "or from the start if there is none"
    )


def flush(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_old(folder: Path, keep: int) -> None:
    """Remove all checkpoints but the newest `keep` and the best, and what a crash left of one."""
    found = checkpoints(folder)
    spared = {*found[-keep:], best(folder)}
    for path in found:
        if path not in spared:
            remove(path)
    for path in (*folder.glob(".step_*.partial"), *folder.glob(".step_*.removed")):
        shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a checkpoint, or whatever has its name; of a link, the link alone."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        # Renamed first: a folder half removed must not look like a checkpoint.
        rubbish = path.with_name(f".{path.name}.removed")
        shutil.rmtree(rubbish, ignore_errors=True)
        shutil.rmtree(path.rename(rubbish), ignore_errors=True)
