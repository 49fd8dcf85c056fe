"""Faults of training: what is reported, what is averaged, what is continued from."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.training.checkpointing.files import MANIFEST, latest
from llmlib.training.config import TrainConfig
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.schedules import Schedule
from llmlib.training.trainer import Trainer
from museum.exhibit import Exhibit

# What a run reports as its loss. Each implementation returns it for one update.

Reported = Callable[[Transformer, list[Batch]], float]


class Listed:
    """The given batches, one after the other."""

    def __init__(self, batches: list[Batch]) -> None:
        self.left = iter(batches)

    def __next__(self) -> Batch:
        return next(self.left)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def _small(**changes: Any) -> Transformer:
    torch.manual_seed(3)
    sizes: dict[str, Any] = dict(vocab_size=29, d_model=24, n_layers=2, n_heads=3, max_seq_len=13)
    return Transformer(ModelConfig(**sizes, **changes)).train()


def _batch(seed: int, counted: int = 13) -> Batch:
    tokens = torch.randint(0, 29, (3, 14), generator=torch.Generator().manual_seed(seed))
    targets = tokens[:, 1:].clone()
    targets[:, counted:] = IGNORE
    return {"inputs": tokens[:, :-1], "targets": targets}


@torch.no_grad()
def _nats(model: Transformer, batches: list[Batch]) -> float:
    """The mean over all targets at once, as evaluation has it."""
    model.eval()
    losses = [next_token_loss(model, batch).item() for batch in batches]
    counts = [int((batch["targets"] != IGNORE).sum()) for batch in batches]
    model.train()
    return sum(n * count for n, count in zip(losses, counts, strict=True)) / sum(counts)


def _trainers_report(model: Transformer, batches: list[Batch]) -> float:
    with TemporaryDirectory() as folder:
        config = TrainConfig(steps=2, accumulate=len(batches))
        trainer = Trainer(model, Listed(batches), config, Path(folder), show_progress=False)
        return trainer.train_step()["loss"]


def _whole_objective(model: Transformer, batches: list[Batch]) -> float:
    return next_token_loss(model, batches[0]).item()


def _plausible_for_one_dense_batch(reported: Reported) -> None:
    model, batches = _small(), [_batch(1)]
    expected = _nats(model, batches)
    assert abs(reported(model, batches) - expected) < 1e-5


def _nats_of_a_model_with_experts(reported: Reported) -> None:
    model, batches = _small(n_experts=5, balance_weight=0.1), [_batch(1)]
    expected = _nats(model, batches)
    assert abs(reported(model, batches) - expected) < 1e-5


def _mean_of_means(model: Transformer, batches: list[Batch]) -> float:
    return sum(next_token_loss(model, batch).item() for batch in batches) / len(batches)


def _plausible_for_full_batches(reported: Reported) -> None:
    model, batches = _small(), [_batch(1), _batch(2)]
    expected = _nats(model, batches)
    assert abs(reported(model, batches) - expected) < 1e-5


def _mean_over_all_targets(reported: Reported) -> None:
    model, batches = _small(), [_batch(1), _batch(2, counted=1)]
    expected = _nats(model, batches)
    assert abs(reported(model, batches) - expected) < 1e-5


# Where a run continues. Each implementation returns the newest checkpoint of a folder.

Newest = Callable[[Path], Path | None]


def _folders(root: str, steps: list[int], empty: tuple[int, ...] = ()) -> list[Path]:
    paths = [Path(root, f"step_{step:08d}") for step in (*steps, *empty)]
    for path, step in zip(paths, (*steps, *empty), strict=True):
        path.mkdir()
        if step not in empty:
            (path / MANIFEST).write_text("{}")
    return paths


def _folder_of_the_largest_number(folder: Path) -> Path | None:
    found = [path for path in folder.iterdir() if re.fullmatch(r"step_\d+", path.name)]
    return max(found, key=lambda path: int(path.name.removeprefix("step_")), default=None)


def _plausible_among_whole_ones(newest: Newest) -> None:
    with TemporaryDirectory() as root:
        assert newest(Path(root)) is None
        paths = _folders(root, [100, 200, 300])
        assert newest(Path(root)) == paths[-1]


def _passes_by_a_folder_without_its_last_file(newest: Newest) -> None:
    with TemporaryDirectory() as root:
        paths = _folders(root, [100, 200], empty=(300,))
        assert newest(Path(root)) == paths[1]


def _largest_last_digit(folder: Path) -> Path | None:
    found = [(re.fullmatch(r"step_.*(\d)", path.name), path) for path in sorted(folder.iterdir())]
    digits = [(int(match[1]), path) for match, path in found if match]
    return max(digits, key=lambda pair: pair[0], default=(0, None))[1]


def _plausible_for_a_few_steps(newest: Newest) -> None:
    with TemporaryDirectory() as root:
        paths = _folders(root, [1, 2, 3])
        assert newest(Path(root)) == paths[-1]


def _newest_of_ten(newest: Newest) -> None:
    with TemporaryDirectory() as root:
        paths = _folders(root, [*range(1, 11)])
        assert newest(Path(root)) == paths[-1]


# The rate of a step. Each implementation returns the factor of the peak.

Factor = Callable[[int, int], float]


def _falls_to_zero_at_the_last(step: int, total: int) -> float:
    return 1 - step / total


def _scheduled(step: int, total: int) -> float:
    return Schedule(kind="linear").factor(step, total)


def _plausible_fall(factor: Factor) -> None:
    assert [factor(step, 4) for step in (1, 2, 3, 4)] == [0.75, 0.5, 0.25, 0.0]


def _learns_in_a_run_of_one_step(factor: Factor) -> None:
    for total in range(1, 6):
        assert max(factor(step, total) for step in range(1, total + 1)) > 0


EXHIBITS = [
    Exhibit(
        name="A load-balancing loss inside the loss in nats",
        threads=("mlfoundations/open_lm#255", "AI-Hypercomputer/maxtext#3664"),
        fault="What is minimized is reported: the loss of the text and, of a model with experts, "
        "its load-balancing loss.",
        looks="The curve falls as it should, a constant too high; a mixture of experts seems to "
        "learn worse than the dense model beside it.",
        faulty=_whole_objective,
        sound=_trainers_report,
        plausible=_plausible_for_one_dense_batch,
        check=_nats_of_a_model_with_experts,
    ),
    Exhibit(
        name="A mean of means over micro-batches",
        threads=("huggingface/transformers#34191",),
        fault="The losses of accumulated micro-batches are averaged, whatever number of targets "
        "each has, so that a target among few counts more than one among many.",
        looks="Exactly right while all texts are equally long, and near enough to right otherwise.",
        faulty=_mean_of_means,
        sound=_trainers_report,
        plausible=_plausible_for_full_batches,
        check=_mean_over_all_targets,
    ),
    Exhibit(
        name="The newest checkpoint is half a checkpoint",
        threads=("huggingface/transformers#35782",),
        fault="A run continues from the folder with the largest number, whether or not its last "
        "file was written before the machine stopped.",
        looks="Right after every run that ended well. After the one that did not, the same command "
        "fails each time it is started.",
        faulty=_folder_of_the_largest_number,
        sound=latest,
        plausible=_plausible_among_whole_ones,
        check=_passes_by_a_folder_without_its_last_file,
    ),
    Exhibit(
        name="The last digit of a step",
        threads=("huggingface/transformers#9822",),
        fault="The pattern that reads a step from a folder's name keeps its last digit only.",
        looks="Right for nine steps; from then on a run continues from an old checkpoint, and "
        "nobody sees why it forgets.",
        faulty=_largest_last_digit,
        sound=latest,
        plausible=_plausible_for_a_few_steps,
        check=_newest_of_ten,
    ),
    Exhibit(
        name="One step at the rate of the last",
        fault="A rate that falls to zero at the last step is zero at a run's only step.",
        looks="The run ends well, its loss is printed and a checkpoint written: of the model as it "
        "was drawn.",
        faulty=_falls_to_zero_at_the_last,
        sound=_scheduled,
        plausible=_plausible_fall,
        check=_learns_in_a_run_of_one_step,
    ),
]
