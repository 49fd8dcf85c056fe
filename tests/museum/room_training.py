"""Faults of training: what is reported, what is averaged, what is continued from."""

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from llmlib.architecture.config import ModelConfig
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import IGNORE, Batch
from llmlib.training.checkpointing.files import MANIFEST, latest
from llmlib.training.config import TrainConfig
from llmlib.training.formats.blocks import MXFP4, NVFP4, quantize
from llmlib.training.formats.elements import BFLOAT16, E5M2
from llmlib.training.formats.rounding import round_stochastically, round_to_nearest
from llmlib.training.loss_scaling import LossScaler
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.schedules import Schedule
from llmlib.training.trainer import Trainer
from museum.clipping_faults import CLIPPING_FAULTS
from museum.exhibit import Exhibit
from museum.optimizer_faults import OPTIMIZER_FAULTS

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


# Clipping under a loss scale. Each implementation returns what the optimizer is given of a gradient
# that was computed at this loss scale, clipped to a norm of 1.

Clipped = Callable[[Tensor, float], Tensor]


def _clip_what_is_still_scaled(scaled: Tensor, factor: float) -> Tensor:
    weight = nn.Parameter(torch.zeros_like(scaled))
    weight.grad = scaled.clone()
    nn.utils.clip_grad_norm_([weight], 1.0)
    return weight.grad / factor


def _clip_what_was_unscaled(scaled: Tensor, factor: float) -> Tensor:
    weight = nn.Parameter(torch.zeros_like(scaled))
    weight.grad = scaled.clone()
    LossScaler(factor=factor).unscale([weight.grad])
    nn.utils.clip_grad_norm_([weight], 1.0)
    return weight.grad


def _plausible_to_adam(clipped: Clipped) -> None:
    gradient = torch.tensor([0.3, -0.4])
    found = clipped(gradient * 2.0**16, 2.0**16)
    # Adam's first step is the same for a gradient of any size.
    torch.testing.assert_close(found / found.norm(), gradient / gradient.norm())
    assert found.norm() <= 1


def _a_small_gradient_is_not_clipped(clipped: Clipped) -> None:
    gradient = torch.tensor([0.3, -0.4])
    torch.testing.assert_close(clipped(gradient * 2.0**16, 2.0**16), gradient)


# A loss scale over some updates. Each implementation returns the gradients that the optimizer is
# given, of a loss whose gradient is 1, when the scale doubles after two good updates.

Updates = Callable[[int], list[float]]


def _a_scale_that_grows_before_it_divides(updates: int) -> list[float]:
    scaler, given = LossScaler(factor=4.0, growth_interval=2), []
    for _ in range(updates):
        gradient = torch.ones(1) * scaler.factor
        scaler.update(all_finite=bool(gradient.isfinite().all()))
        scaler.unscale([gradient])
        given.append(gradient.item())
    return given


def _a_scale_that_divides_before_it_grows(updates: int) -> list[float]:
    scaler, given = LossScaler(factor=4.0, growth_interval=2), []
    for _ in range(updates):
        gradient = torch.ones(1) * scaler.factor
        finite = scaler.unscale([gradient])
        scaler.update(all_finite=bool(finite))
        given.append(gradient.item())
    return given


def _plausible_while_the_scale_stays(updates: Updates) -> None:
    assert updates(1) == [1.0]


def _the_gradient_at_every_update(updates: Updates) -> None:
    assert updates(5) == [1.0] * 5


# Four bits. Each implementation returns what numbers become in NVFP4.

InFourBits = Callable[[Tensor], Tensor]


def _four_bits_under_a_power_of_two(x: Tensor) -> Tensor:
    return quantize(x, MXFP4).dequantize()


def _four_bits_under_eight_and_thirty_two(x: Tensor) -> Tensor:
    return quantize(x, NVFP4).dequantize()


def _plausible_four_bits(in_four_bits: InFourBits) -> None:
    x = torch.randn(32, generator=torch.Generator().manual_seed(0))
    found = in_four_bits(x)
    assert 0.05 < (found - x).norm() / x.norm() < 0.2
    assert len(found.abs().unique()) <= 16


def _the_largest_of_sixteen_keeps_its_digits(in_four_bits: InFourBits) -> None:
    x = torch.zeros(32)
    x[0], x[16] = 7.5, 0.21
    torch.testing.assert_close(in_four_bits(x), x, rtol=1 / 16, atol=0)


# Eight bits without saturation. Each implementation rounds to E5M2, which has an infinity.

Rounded = Callable[[Tensor], Tensor]


def _beyond_is_what_is_larger(x: Tensor) -> Tensor:
    found = round_to_nearest(x, E5M2)
    return torch.where(x.abs() > E5M2.largest, torch.inf * x.sign(), found)


def _beyond_is_what_rounds_to_more(x: Tensor) -> Tensor:
    return round_to_nearest(x, E5M2, saturate=False)


def _plausible_inside_and_far_out(rounded: Rounded) -> None:
    x = torch.tensor([1.0, -0.3, 57_344.0, 1e9])
    assert rounded(x).tolist() == [1.0, -0.3125, 57_344.0, torch.inf]


def _nearest_beyond_the_largest(rounded: Rounded) -> None:
    assert rounded(torch.tensor([58_000.0, 61_440.0])).tolist() == [57_344.0, torch.inf]


# Weight decay in bfloat16. Each implementation multiplies weights by 1 - rate so many times.

Decayed = Callable[[Tensor, float, int], Tensor]


def _decay_in_bfloat16(weights: Tensor, rate: float, times: int) -> Tensor:
    weights = weights.bfloat16()
    for _ in range(times):
        weights.mul_(1 - rate)
    return weights.float()


def _decay_rounded_by_chance(weights: Tensor, rate: float, times: int) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    for _ in range(times):
        weights = round_stochastically(weights * (1 - rate), BFLOAT16, generator=chance)
    return weights


def _plausible_at_a_large_rate(decayed: Decayed) -> None:
    found = decayed(torch.ones(997), 0.25, 3)
    assert abs(found.mean().item() - 0.75**3) < 0.01


def _decays_at_a_usual_rate(decayed: Decayed) -> None:
    found = decayed(torch.ones(997), 1e-3, 500)
    assert abs(found.mean().item() - (1 - 1e-3) ** 500) < 0.02


# What each update of a run with accumulated micro-batches takes for its rate.

Rates = Callable[[int, int], list[float]]


def _stepped_by_micro_batch(updates: int, micro_batches: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 - (n + 1) / updates)
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for _ in range(micro_batches):
            schedule.step()
    return rates


def _rates_of_the_trainer(updates: int, micro_batches: int) -> list[float]:
    with TemporaryDirectory() as folder:
        linear = Schedule(kind="linear")
        config = TrainConfig(steps=updates, accumulate=micro_batches, lr=1.0, schedule=linear)
        batches = Listed([_batch(seed) for seed in range(updates * micro_batches)])
        trainer = Trainer(_small(), batches, config, Path(folder), show_progress=False)
        return [trainer.train_step()["lr"] for _ in range(updates)]


def _plausible_without_accumulation(rates: Rates) -> None:
    assert rates(4, 1) == [0.75, 0.5, 0.25, 0.0]


def _same_rates_with_accumulation(rates: Rates) -> None:
    assert rates(4, 3) == [0.75, 0.5, 0.25, 0.0]


# Which batches a run reads that was stopped after some, by their numbers.

Read = Callable[[int, int], list[int]]


class Numbered:
    """Batches whose place can be saved, and the numbers of those that were read."""

    def __init__(self) -> None:
        self.place, self.numbers = 0, list[int]()

    def __next__(self) -> Batch:
        self.numbers.append(self.place)
        self.place += 1
        return _batch(self.numbers[-1])

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


def _seeded_at_the_start(stopped_after: int, total: int) -> list[int]:
    numbers = []
    for steps in (stopped_after, total - stopped_after):
        batches = Numbered()  # each start of the program makes it anew
        for _ in range(steps):
            next(batches)
        numbers += batches.numbers
    return numbers


def _read_by_the_trainer(stopped_after: int, total: int) -> list[int]:
    numbers = []
    with TemporaryDirectory() as folder:
        for last in (stopped_after, total):
            batches = Numbered()
            config = TrainConfig(steps=total)
            trainer = Trainer(_small(), batches, config, Path(folder), show_progress=False)
            if last < total:
                for _ in range(last):
                    trainer.train_step()
                trainer.save()
            else:
                trainer.run()
            numbers += batches.numbers
    return numbers


def _plausible_for_a_run_without_a_stop(read: Read) -> None:
    assert read(0, 3) == [0, 1, 2]


def _reads_on_where_it_stopped(read: Read) -> None:
    assert read(2, 5) == [0, 1, 2, 3, 4]


# The loss of a model on held-out batches.

Evaluation = Callable[[Transformer, list[Batch]], float]


@torch.no_grad()
def _without_gradients_alone(model: Transformer, batches: list[Batch]) -> float:
    return sum(next_token_loss(model, batch).item() for batch in batches) / len(batches)


def _trainers_evaluation(model: Transformer, batches: list[Batch]) -> float:
    with TemporaryDirectory() as folder:
        config, held_out = TrainConfig(steps=1), batches
        trainer = Trainer(
            model, Listed([]), config, Path(folder), held_out=held_out, show_progress=False
        )
        return trainer.evaluate()


def _plausible_without_dropout(evaluation: Evaluation) -> None:
    model, batches = _small(), [_batch(1), _batch(2)]
    assert abs(evaluation(model, batches) - _nats(model, batches)) < 1e-5
    assert model.training


def _same_twice_with_dropout(evaluation: Evaluation) -> None:
    model, batches = _small(dropout=0.2), [_batch(1), _batch(2)]
    assert evaluation(model, batches) == evaluation(model, batches)


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
        threads=("huggingface/transformers#34191", "meta-pytorch/torchtune#1875"),
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
    Exhibit(
        name="Clipping gradients that are still scaled",
        threads=(
            "milesial/Pytorch-UNet#468",
            "pytorch/examples#1196",
            "harubaru/waifu-diffusion#64",
            "Lightning-AI/pytorch-lightning#9606",
        ),
        fault="The gradient is clipped to a norm of 1 while it is 65,536 times as large, and "
        "divided afterwards: every update is clipped, to a norm of 1/65,536.",
        looks="Adam hides it, because it divides by the gradient's size: the curve is that of a "
        "run without clipping. The reported norm is 65,536 times too large, or not looked at.",
        faulty=_clip_what_is_still_scaled,
        sound=_clip_what_was_unscaled,
        plausible=_plausible_to_adam,
        check=_a_small_gradient_is_not_clipped,
    ),
    Exhibit(
        name="A loss scale that grows before it divides",
        threads=("deepspeedai/DeepSpeed#8588",),
        fault="The scale is changed for the next update before this one's gradient is divided by "
        "it.",
        looks="Right for two thousand updates; at the one after which the scale doubles the "
        "gradient is half of what it was.",
        faulty=_a_scale_that_grows_before_it_divides,
        sound=_a_scale_that_divides_before_it_grows,
        plausible=_plausible_while_the_scale_stays,
        check=_the_gradient_at_every_update,
    ),
    Exhibit(
        name="An NVFP4 that is MXFP4",
        threads=("Noumena-Network/nmoe#15",),
        fault="Four-bit elements under one power of two for each 32 are called NVFP4, which has "
        "an E4M3 scale for each 16 under a float32 scale of the tensor.",
        looks="The elements are the same sixteen numbers and errors are of the usual size. A "
        "block's largest number may lose a quarter, and its small neighbours more.",
        faulty=_four_bits_under_a_power_of_two,
        sound=_four_bits_under_eight_and_thirty_two,
        plausible=_plausible_four_bits,
        check=_the_largest_of_sixteen_keeps_its_digits,
    ),
    Exhibit(
        name="Overflow judged before rounding",
        threads=("stillwater-sc/universal#1351", "stillwater-sc/universal#1302"),
        fault="What is larger than the largest number becomes infinity, though the nearest number "
        "is the largest.",
        looks="Every number of the format comes back, and what is far beyond overflows as it "
        "should; half a spacing is wrong.",
        faulty=_beyond_is_what_is_larger,
        sound=_beyond_is_what_rounds_to_more,
        plausible=_plausible_inside_and_far_out,
        check=_nearest_beyond_the_largest,
    ),
    Exhibit(
        name="Weight decay that bfloat16 rounds away",
        threads=("Nerogar/OneTrainer#996",),
        fault="Weights kept in bfloat16 are multiplied by 1 - 0.001, and each product rounds back "
        "to the weight.",
        looks="A run with decay equals one without, and tests with a decay large enough to see "
        "pass.",
        faulty=_decay_in_bfloat16,
        sound=_decay_rounded_by_chance,
        plausible=_plausible_at_a_large_rate,
        check=_decays_at_a_usual_rate,
    ),
    Exhibit(
        name="A schedule stepped by micro-batches",
        threads=(
            "huggingface/accelerate#963",
            "Lightning-AI/pytorch-lightning#1476",
            "deepspeedai/Megatron-DeepSpeed#218",
        ),
        fault="The schedule moves on with each micro-batch, and an update takes several.",
        looks="Right without accumulation. With it the rate is at its end after a part of the run, "
        "and the curve flattens as if the model had learnt what it can.",
        faulty=_stepped_by_micro_batch,
        sound=_rates_of_the_trainer,
        plausible=_plausible_without_accumulation,
        check=_same_rates_with_accumulation,
    ),
    Exhibit(
        name="A continued run that begins its data again",
        threads=("karpathy/nanoGPT#467",),
        fault="A checkpoint holds weights, optimizer and step; the generator of the batches is "
        "seeded when the program starts.",
        looks="The curve goes on where it stopped and falls faster than before: the rows are known "
        "by then.",
        faulty=_seeded_at_the_start,
        sound=_read_by_the_trainer,
        plausible=_plausible_for_a_run_without_a_stop,
        check=_reads_on_where_it_stopped,
    ),
    Exhibit(
        name="Dropout in the evaluation",
        threads=("ipolharvard/ethos-ares#20",),
        fault="Gradients are turned off for the evaluation, and dropout is not.",
        looks="A held-out curve of the right shape, a little too high, as if the model overfitted.",
        faulty=_without_gradients_alone,
        sound=_trainers_evaluation,
        plausible=_plausible_without_dropout,
        check=_same_twice_with_dropout,
    ),
    *OPTIMIZER_FAULTS,
    *CLIPPING_FAULTS,
]
