"""What a step of the laptop's capstone costs, as it is and with the speed run's last two changes.

Both recipes' steps are taken in turns in one process, with the preset's threads and precision, and
the least of the rounds counts.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.table import Table

from llmlib.capstone.presets import LAPTOP, Preset
from llmlib.capstone.pretrain import build_model
from llmlib.core.statistics import t_interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.training.precision import resolve_precision
from llmlib.training.trainer import Trainer

RACED = replace(
    LAPTOP.with_train(muon_steps=3),
    model=LAPTOP.model.replace(activation="relu_squared", d_ff=1024),
)


def trainer_of(preset: Preset, folder: Path, seed: int) -> Trainer:
    """Build the preset's trainer over one batch of arbitrary tokens, repeated."""
    shape = (preset.batch_size, preset.seq_len + 1)
    windows = torch.randint(
        preset.model.vocab_size, shape, generator=torch.Generator().manual_seed(seed)
    )
    batch = {"inputs": windows[:, :-1].contiguous(), "targets": windows[:, 1:].contiguous()}
    return Trainer(
        build_model(preset.model, seed, torch.device("cpu")), cast("Any", iter([batch] * 1000)),
        preset.train,
        folder,
    )  # fmt: skip


def measure(run: Run, *, rounds: int = 12) -> Run:
    threads = torch.get_num_threads()
    torch.set_num_threads(LAPTOP.threads)
    try:
        with tempfile.TemporaryDirectory() as name:
            trainers = [
                trainer_of(preset, Path(name) / str(i), run["seed"])
                for i, preset in enumerate((LAPTOP, RACED))
            ]
            seconds: list[list[float]] = [[], []]
            for _ in range(rounds + 1):  # the first round builds the optimizers' states
                for mine, trainer in zip(seconds, trainers, strict=True):
                    began = time.perf_counter()
                    trainer.train_step()
                    mine.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    preset, raced = (min(mine[1:]) for mine in seconds)
    return {
        "preset_seconds": round(preset, 4),
        "raced_seconds": round(raced, 4),
        "share": round(raced / preset, 4),
        "parameters": [sum(p.numel() for p in t.model.parameters()) for t in trainers],
        "precision": str(resolve_precision(LAPTOP.train.precision, torch.device("cpu"))),
    }


def lay_out(runs: Runs) -> Table:
    table = Table("seed", "machine", "in", "preset, s", "raced, s", "raced / preset")
    for run in runs:
        table.add_row(
            str(run["seed"]), run["machine"], run["precision"], f"{run['preset_seconds']:.3f}",
            f"{run['raced_seconds']:.3f}", f"{run['share']:.3f}",
        )  # fmt: skip
    return table


EXPERIMENT = Experiment(
    conditions=[{}],
    seeds=(0, 1, 2, 3, 4),
    measure=measure,
    equal=("parameters",),
    depends=("llmlib.training.optimizers.muon", "llmlib.architecture.feedforward"),
    tolerance=0.3,
    table=lay_out,
    claims={
        "": {
            "with squared ReLU and three Newton-Schulz steps a step takes less time": (
                lambda runs: t_interval(runs.values("share"))[1] < 1
            ),
            "parameters are as many within 2%": lambda runs: all(
                abs(r["parameters"][1] / r["parameters"][0] - 1) < 0.02 for r in runs
            ),
        }
    },
)
