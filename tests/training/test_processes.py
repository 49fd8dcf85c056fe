"""Real processes: killed in the middle, and several that train together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from llmlib.training import Trainer, read_metrics

PROGRAM = Path(__file__).parent / "program.py"
Build = Callable[..., Trainer]


def command(folder: Path, runs: dict[str, Any], processes: int = 1) -> list[str]:
    start = [sys.executable]
    if processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*start, str(PROGRAM), str(folder), json.dumps(runs)]


def train(folder: Path, runs: dict[str, Any], processes: int = 1) -> None:
    done = subprocess.run(
        command(folder, runs, processes), capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr


def losses(folder: Path) -> list[float]:
    lines = read_metrics(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints/step_00000011/model.safetensors")


@pytest.mark.slow
@pytest.mark.covers("train.resume")
def test_a_killed_process_loses_at_most_one_interval(new_trainer: Build, tmp_path: Path) -> None:
    settings = {"checkpoint_every": 3, "accumulate": 2}
    run = subprocess.Popen(command(tmp_path, {"killed": {**settings, "delay": 0.05}}))
    file, deadline = tmp_path / "killed/metrics.jsonl", time.monotonic() + 60
    while len(read_metrics(file)) < 8 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    n_done = len(read_metrics(file))
    assert 8 <= n_done < 11
    with file.open("a") as log:  # what a power cut may leave behind
        log.write('{"step": 9, "lo')

    straight = new_trainer("straight", **settings)
    straight.run()
    resumed = new_trainer("killed", **settings)
    steps = []
    take_step = resumed.train_step
    resumed.train_step = lambda: steps.append(resumed.step) or take_step()
    resumed.run()
    assert n_done - steps[0] <= 3
    assert losses(tmp_path / "killed") == losses(tmp_path / "straight")
    ours, theirs = weights(tmp_path / "killed"), weights(tmp_path / "straight")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
@pytest.mark.covers("train.engine", "train.resume")
def test_two_processes_equal_one_and_resume_to_the_bit(new_trainer: Build, tmp_path: Path) -> None:
    common = {"model": {"dropout": 0.0}, "accumulate": 3, "checkpoint_every": 4}
    runs = {
        "ddp": common,
        "muon": {**common, "optimizer": "muon"},
        "fsdp": {**common, "parallel": "fsdp"},
        "dropout": {"checkpoint_every": 4},  # each process draws its own
    }
    train(tmp_path, runs, processes=2)
    for name, optimizer in (("ddp", "adamw"), ("fsdp", "adamw"), ("muon", "muon")):
        single = tmp_path / f"one_{optimizer}"
        new_trainer(single.name, **common, optimizer=optimizer).run()
        torch.testing.assert_close(losses(tmp_path / name), losses(single), atol=1e-5, rtol=0)
        torch.testing.assert_close(weights(tmp_path / name), weights(single), atol=1e-4, rtol=0)

    before = {name: (losses(tmp_path / name), weights(tmp_path / name)) for name in runs}
    for name in runs:  # as if they had stopped before the end
        last = tmp_path / name / "checkpoints/step_00000011"
        last.rename(last.with_name(".gone"))
    train(tmp_path, runs, processes=2)
    for name, (old_losses, old_weights) in before.items():
        assert losses(tmp_path / name) == old_losses
        new_weights = weights(tmp_path / name)
        assert all(torch.equal(new_weights[key], old_weights[key]) for key in old_weights)
