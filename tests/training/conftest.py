"""A tiny model and a source of batches for the tests of training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from llmlib.architecture import ModelConfig, Transformer
from llmlib.training import Schedule, TrainConfig, Trainer

CONFIG = ModelConfig(vocab_size=29, d_model=24, n_layers=2, n_heads=3, max_seq_len=13, dropout=0.1)


class RandomBatches:
    """Batch n is drawn from seed n; some targets do not count, in some batches more."""

    def __init__(self, rows: int = 5, start: int = 0) -> None:
        self.rows, self.position = rows, start

    def __next__(self) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.position)
        tokens = torch.randint(0, 29, (self.rows, 14), generator=generator)
        inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
        targets[:, : self.position % 7] = -100
        self.position += 1
        return inputs, targets

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def make_model(**changes: Any) -> Transformer:
    torch.manual_seed(3)
    return Transformer(CONFIG.replace(**changes))


def make_config(**changes: Any) -> TrainConfig:
    settings = {"steps": 11, "lr": 1e-2, "schedule": Schedule(warmup=3, final=0.1)}
    return TrainConfig(**{**settings, **changes})


@pytest.fixture
def new_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def build(folder: str = "run", **changes: Any) -> Trainer:
        own = ("make_optimizer", "held_out", "model_config", "loss_fn", "show_progress")
        arguments = {name: changes.pop(name) for name in own if name in changes}
        model = make_model(dropout=changes.pop("dropout", 0.1))
        return Trainer(
            model,
            RandomBatches(),
            make_config(**changes),
            tmp_path / folder,
            **{"model_config": model.config.to_dict(), "show_progress": False, **arguments},
        )

    return build
