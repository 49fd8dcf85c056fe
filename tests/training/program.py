"""A tiny training run: the fixtures build it in the test's process, the tests start it as another.

`python program.py FOLDER '{"steps": 11, ...}'`, alone or under torchrun.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.batch import Batch
from llmlib.training import Schedule, TrainConfig, Trainer, latest, process_group
from llmlib.training.distributed import copies, rank, world_size

CONFIG = ModelConfig(vocab_size=29, d_model=24, n_layers=2, n_heads=3, max_seq_len=13, dropout=0.1)


class RandomBatches:
    """Batch n is drawn from seed n; some targets do not count, in some rows and batches more."""

    def __init__(self, rows: int = 6, delay: float = 0.0, copies: int = 1) -> None:
        self.rows, self.delay, self.copies, self.position = rows, delay, copies, 0

    def __next__(self) -> Batch:
        time.sleep(self.delay)
        generator = torch.Generator().manual_seed(self.position)
        tokens = torch.randint(0, 29, (self.rows, 14), generator=generator)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
        targets[:, : self.position % 7] = -100
        targets[0, 2:] = -100
        self.position += 1
        mine = slice(rank() // self.copies, None, world_size() // self.copies)
        return {"inputs": inputs[mine], "targets": targets[mine]}

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def build(folder: Path, **changes: Any) -> Trainer:
    """Build a trainer; changes are fields of TrainConfig, arguments of Trainer, or those below."""
    names = ("make_optimizer", "held_out", "model_config", "loss_fn", "recovery", "show_progress")
    arguments = {name: changes.pop(name) for name in names if name in changes}
    die_at = changes.pop("die_at", None)
    together = copies(changes.get("parallel", "ddp"), changes.get("tensor_size", 2))
    batches = RandomBatches(delay=changes.pop("delay", 0.0), copies=together)
    config = CONFIG.replace(**changes.pop("model", {}))
    torch.manual_seed(3 + rank())  # unequal on purpose: all ranks must take the first one's
    settings = {"steps": 11, "lr": 1e-2, "schedule": Schedule(warmup=3, final=0.1), **changes}
    arguments = {"model_config": config.to_dict(), "show_progress": False, **arguments}
    trainer = Trainer(Transformer(config), batches, TrainConfig(**settings), folder, **arguments)
    if die_at is not None:
        let_one_die(trainer, die_at)
    return trainer


def let_one_die(trainer: Trainer, die_at: int) -> None:
    """Kill rank 1 before a step at torchrun's first attempt; note where each attempt begins."""
    attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
    note, take_step = trainer.folder / f"attempt_{attempt}", trainer.train_step

    def train_step() -> dict[str, Any]:
        if rank() == 0 and not note.exists():
            note.write_text(str(trainer.step))
        if trainer.step == die_at and rank() == 1 and attempt == "0":
            while latest(trainer.folder / "checkpoints") is None:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step()

    trainer.train_step = train_step


if __name__ == "__main__":
    torch.set_num_threads(1)
    with process_group("cpu"):
        for name, settings in json.loads(sys.argv[2]).items():
            build(Path(sys.argv[1], name), **settings).run()
