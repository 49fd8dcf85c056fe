"""A rank is killed under torchrun, and the job goes on by itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llmlib.training import Trainer, latest, read_metrics
from llmlib.training.checkpointing.checkpoint import load_model

PROGRAM = Path(__file__).parents[1] / "program.py"


@pytest.mark.slow
@pytest.mark.covers("train.engine", "train.reshard")
def test_a_killed_rank_costs_at_most_one_interval(new_trainer: object, tmp_path: Path) -> None:
    interval, die_at = 5, 8
    common = {
        "model": {"dropout": 0.0}, "parallel": "fsdp", "checkpoints": "sharded",
        "checkpoint_every": interval,
    }  # fmt: skip
    runs = {"straight": common, "killed": {**common, "die_at": die_at}}
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, "--max-restarts=1", str(PROGRAM), str(tmp_path),
         json.dumps(runs)],
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    begun = [int((tmp_path / f"killed/attempt_{n}").read_text()) for n in (0, 1)]
    assert begun == [0, interval]
    assert die_at - begun[1] <= interval
    straight, killed = (read_metrics(tmp_path / name / "metrics.jsonl") for name in runs)
    assert [line["step"] for line in killed] == list(range(1, 12))
    assert [line["loss"] for line in killed] == [line["loss"] for line in straight]
    models = []
    for name in runs:
        trainer: Trainer = new_trainer(f"{name}_read", model={"dropout": 0.0})  # pyright: ignore[reportCallIssue]
        path = latest(tmp_path / name / "checkpoints")
        assert path is not None and path.name == "step_00000011"
        load_model(path, trainer.model)
        models.append(trainer.model.state_dict())
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])
