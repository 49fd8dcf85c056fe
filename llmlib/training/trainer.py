"""Pre-training, top to bottom: read batches, accumulate gradients, clip, update, save, go on."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmlib.core.batch import Batch, Batches, LossFn, count_targets
from llmlib.core.seeding import seed_everything
from llmlib.training.checkpointing import checkpoint
from llmlib.training.checkpointing.background import BackgroundSaver, ForegroundSaver
from llmlib.training.checkpointing.files import best, latest, read_manifest
from llmlib.training.checkpointing.named_state import AnyOptimizer
from llmlib.training.config import TrainConfig
from llmlib.training.distributed import (
    Objective,
    accumulating,
    copies,
    on_device,
    parallelize,
    rank,
    sum_over_ranks,
    whole,
    world_size,
)
from llmlib.training.held_out import mean_loss
from llmlib.training.loss_scaling import LossScaler
from llmlib.training.metrics import Meter, MetricsFile
from llmlib.training.objectives.auxiliary import auxiliary_losses
from llmlib.training.objectives.next_token import next_token_loss
from llmlib.training.optimizers.combined import build_optimizer
from llmlib.training.precision import autocast
from llmlib.training.progress import StopRequest, TrainingProgress, stop_on_signals
from llmlib.training.stability.clipping import Clipping, NormClipping, ZScoreClipping
from llmlib.training.stability.recovery import Recovery

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    step: int
    """Updates done."""
    finished: bool
    """False when it was stopped before its last step."""
    tokens: int
    """Target tokens learned from, over all processes."""
    seconds: float
    """Time spent in training steps, without evaluation and saving."""
    held_out_loss: float | None
    """Last evaluation in nats per token, or None without held-out batches."""
    checkpoint: Path


class Trainer:
    """Trains a model; continues from the newest checkpoint of its folder if there is one.

    Under `process_group` several processes train together: each has its own slice of every batch,
    and the first writes the files.

    Args:
        batches: Training batches of this process.
        folder: Where `metrics.jsonl` and `checkpoints/` go.
        loss_fn: `loss_fn(model, batch)`: mean nats per target that counts, 0 if none; what it adds
            by `add_auxiliary` is learned too, and reported apart.
        make_optimizer: Builds the optimizer from the model; default: as `config` says.
        model_config: The model's configuration as JSON values, kept in each checkpoint.
        held_out: Batches to evaluate on, the same each time (as many in each process).
        flops_per_token: FLOPs of a training step per token; with `peak_flops` reports MFU.
        peak_flops: FLOPs per second of this process's device at best.
        recovery: Takes the run back before a spike and past its data; without it a loss that is not
            finite ends the run.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        config: TrainConfig,
        folder: Path,
        *,
        loss_fn: LossFn = next_token_loss,
        make_optimizer: Callable[[nn.Module], AnyOptimizer] | None = None,
        model_config: Mapping[str, Any] | None = None,
        held_out: Sequence[Batch] = (),
        flops_per_token: float | None = None,
        peak_flops: float | None = None,
        recovery: Recovery | None = None,
        show_progress: bool = True,
    ) -> None:
        self.model, self.batches, self.config, self.folder = model, batches, config, folder
        self.model_config = dict(model_config or {})
        self.held_out = held_out
        self.show_progress = show_progress and rank() == 0
        self.device = next(model.parameters()).device
        objective = Objective(model, loss_fn)
        if config.compile:
            objective.compile()
        self.objective = parallelize(objective, config.parallel, config.tensor_size)
        self.copies = copies(config.parallel, config.tensor_size)
        # After sharding, which replaces the parameters.
        self.optimizer = make_optimizer(model) if make_optimizer else build_optimizer(model, config)
        self.peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.reported_rate = self.peak_rates[0] if make_optimizer else config.lr
        self.clip: Clipping = (
            ZScoreClipping() if config.clipping == "zscore" else NormClipping(config.clip)
        )
        self.scaler = LossScaler() if config.precision == "float16" else None
        self.recovery = recovery
        if recovery is not None:
            recovery.require(checkpoint_every=config.checkpoint_every, keep=config.keep)
        self.saver = BackgroundSaver() if config.checkpoints == "sharded" else ForegroundSaver()
        self.step, self.micro_batches = 0, 0
        self.meter = Meter(flops_per_token, peak_flops and peak_flops * world_size())
        self.held_out_loss: float | None = None
        self.best_loss = math.inf
        self.stop = StopRequest()
        self.overdue, self.saved_at = False, time.monotonic()

    def run(self) -> TrainResult:
        """Train to the last step, or until Ctrl-C.

        Raises:
            FloatingPointError: When loss or gradient stop being finite numbers and no recovery
                helps.
            OSError: When a checkpoint cannot be written.
            ValueError: When the folder's newest checkpoint does not fit this run, or no target of a
                step counts.
        """
        config = self.config
        path = self._start_or_continue()
        with (
            stop_on_signals(self.stop),
            TrainingProgress(config.steps, self.step, show=self.show_progress) as progress,
            self._open_metrics() as metrics,
        ):
            self.saved_at = time.monotonic()
            if path is None and self.recovery is not None:
                path = self.save()  # to have something to go back to
            while self.step < config.steps and not self.stop.agreed:
                line = self._step_or_go_back()
                if "event" in line:
                    progress.say(f"{line['why']}: back to step {self.step}, its data are left out")
                    if metrics:
                        metrics.write(line)
                    continue
                last = self.step == config.steps
                if self.held_out and (last or _due(self.step, config.eval_every)):
                    line["held_out_loss"] = self.evaluate()
                progress.update(self.step, line["loss"], line["tokens_per_second"])
                if metrics and (
                    last or "held_out_loss" in line or _due(self.step, config.log_every)
                ):
                    metrics.write(line)
                if last or self.stop.agreed or self._save_is_due(line):
                    path = self.save(line.get("held_out_loss"))
            self.saver.wait()
            if self.step < config.steps:
                progress.say(
                    f"stopped after step {self.step} of {config.steps}, saved in {path}: "
                    "run the same command again to continue"
                )
        assert path is not None
        return TrainResult(
            step=self.step,
            finished=self.step == config.steps,
            tokens=self.meter.tokens,
            seconds=self.meter.seconds,
            held_out_loss=self.held_out_loss,
            checkpoint=path,
        )

    def _step_or_go_back(self) -> Line:
        """Return a step's metrics, or what was done instead of going on from a spike."""
        if self.recovery is None:
            return self.train_step()
        try:
            line = self.train_step()
        except FloatingPointError:
            line = {"step": self.step + 1, "loss": math.nan}
        if not self.recovery.is_needed(line):
            return line
        event = self._go_back()
        return event | {"spike": line["loss"]} if math.isfinite(line["loss"]) else event

    def _go_back(self) -> Line:
        assert self.recovery is not None
        self.saver.wait()
        path = self.recovery.go_back(self.folder / "checkpoints")
        read, seconds = self.micro_batches, self.meter.seconds
        found = self._load(path)
        left_out = read - self.micro_batches
        self.micro_batches, self.meter.seconds = read, seconds  # data and time go on
        for _ in range(self.recovery.skip):
            left_out += len(self._next_batches())
        self.optimizer.zero_grad()
        self.best_loss = self._best_loss()
        self.save(found.score)  # with the new place in the data
        return self.recovery.event(self.step, left_out)

    def _next_batches(self) -> list[Batch]:
        """Read the micro-batches of one update."""
        ramp, n = self.config.batch_ramp, self.config.accumulate
        if ramp is not None:
            n = ramp.micro_batches(self.meter.tokens)
        self.micro_batches += n
        return [next(self.batches) for _ in range(n)]

    def train_step(self) -> Line:
        """Do one update; return the step's metrics, as its loss in nats per token.

        In float16 an update whose gradient overflows is left out, and the step counts as done.

        Raises:
            FloatingPointError: When loss or gradient are not finite; nothing is updated then.
            ValueError: When no target counts; weight decay would change the model all the same.
        """
        began = time.perf_counter()
        micro_batches = self._next_batches()
        counts = torch.tensor([count_targets(b) for b in micro_batches], device=self.device)
        total = sum_over_ranks(counts.sum()) // self.copies
        shares = self._backward(micro_batches, counts / total.clamp_min(1))
        parameters = list(self.model.parameters())
        overflowed = self.scaler and ~self.scaler.unscale(
            [p.grad for p in parameters if p.grad is not None]
        )
        norm = self.clip(parameters)
        loss, *beside = self._exchange(shares)
        if not total:
            raise ValueError(
                f"no target of step {self.step + 1} counts, so there is nothing to learn: nothing "
                "was updated, look at the batches"
            )
        left_out = overflowed is not None and bool(overflowed)
        norm = 0.0 if left_out else whole(norm).item()
        self._require_finite(loss + sum(beside), norm)
        factor = self.config.schedule.factor(self.step + 1, self.config.steps)
        for group, peak in zip(self.optimizer.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * factor
        scale = {"loss_scale": self.scaler.factor} if self.scaler else {}
        if self.scaler:
            self.scaler.update(all_finite=not left_out)
        if not left_out:
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.meter.count(0 if left_out else int(total), time.perf_counter() - began)
        return {
            "step": self.step,
            "loss": loss,
            **({"auxiliary_loss": beside[0]} if beside else {}),
            **({"overflow": True} if left_out else {"grad_norm": norm}),
            **scale,
            "lr": self.reported_rate * factor,
            **self.meter.read(),
        }

    def _backward(self, micro_batches: list[Batch], weights: Tensor) -> Tensor:
        """Accumulate the gradient of the mean over all targets; return this process's share of it.

        Behind it stands the share of the auxiliary losses, where there are any.

        Micro-batches count by their number of targets. A mean of means would give a target in a
        batch with much padding more weight than one in a full batch.
        """
        loss, beside = torch.zeros((), device=self.device), list[Tensor]()
        for i, (batch, weight) in enumerate(zip(micro_batches, weights, strict=True)):
            with accumulating(self.objective, is_last=i == len(weights) - 1):
                with autocast(self.config.precision, self.device), auxiliary_losses() as heard:
                    mean = self.objective(on_device(batch, self.device))
                share = mean * weight
                # Data parallelism averages over processes; the shares are to be added up.
                total = share * (world_size() // self.copies)
                (self.scaler.scale(total) if self.scaler else total).backward()
            loss += share.detach()
            for auxiliary in heard:
                loss -= auxiliary * weight
                beside.append(auxiliary * weight)
        return torch.stack([loss, *([torch.stack(beside).sum()] if beside else [])])

    def _exchange(self, shares: Tensor) -> list[float]:
        """Add up the losses; stop or save when any process wants to, so that all do it together.

        This is where the processor waits for the accelerator, once a step: a loss that is not
        finite must be known before the update.
        """
        limit = self.config.checkpoint_seconds
        overdue = 0 < limit <= time.monotonic() - self.saved_at
        wishes = shares.new_tensor([float(self.stop.made), float(overdue)])
        *losses, stop, save = sum_over_ranks(torch.cat([shares, wishes])).tolist()
        self.stop.agreed, self.overdue = stop > 0, save > 0
        return [loss / self.copies for loss in losses]

    def evaluate(self) -> float:
        """Measure the mean loss in nats on the held-out batches, over all processes."""
        with autocast(self.config.precision, self.device):
            loss = mean_loss(self.objective, self.held_out, self.device)
        self.held_out_loss, self.best_loss = loss, min(self.best_loss, loss)
        return loss

    def save(self, score: float | None = None) -> Path:
        """Write a checkpoint of the present step, with the held-out loss if it was measured."""
        present = checkpoint.Checkpoint(
            step=self.step,
            model_config=self.model_config,
            config=self.config.recipe(),
            progress={
                "tokens": self.meter.tokens,
                "seconds": self.meter.seconds,
                "held_out_loss": self.held_out_loss,
                "micro_batches": self.micro_batches,
                **{name: part.state_dict() for name, part in self._stateful().items()},
            },
            score=score,
            loader=self.batches.state_dict(),
        )
        path = self.saver.save(
            self.folder / "checkpoints",
            present,
            model=self.model,
            optimizer=self.optimizer,
            keep=self.config.keep,
        )
        self.saved_at = time.monotonic()
        return path

    def _save_is_due(self, line: Line) -> bool:
        is_best = line.get("held_out_loss", math.inf) <= self.best_loss < math.inf
        return is_best or self.overdue or _due(self.step, self.config.checkpoint_every)

    def _start_or_continue(self) -> Path | None:
        """Seed a new run, or load the newest checkpoint and return its path."""
        self.model.train()
        seed_everything(self.config.seed + rank() // self.copies)
        path = latest(self.folder / "checkpoints")
        if path is None:
            return None
        found = self._load(path)
        self.batches.load_state_dict(found.loader)
        if self.recovery is not None and "recovery" in found.progress:
            self.recovery.load_state_dict(found.progress["recovery"])
        self.best_loss = self._best_loss()
        return path

    def _best_loss(self) -> float:
        path = best(self.folder / "checkpoints")
        return math.inf if path is None else read_manifest(path)["score"]

    def _stateful(self) -> dict[str, Any]:
        """Return what remembers earlier steps besides model, optimizer and generators."""
        parts = {"clipping": self.clip, "scaler": self.scaler, "recovery": self.recovery}
        return {name: part for name, part in parts.items() if part is not None}

    def _load(self, path: Path) -> checkpoint.Checkpoint:
        """Put everything but the place in the data, and the recovery, back to a checkpoint."""
        found = checkpoint.load(
            path,
            model=self.model,
            optimizer=self.optimizer,
            model_config=self.model_config,
            config=self.config.recipe(),
        )
        self.step = found.step
        self.micro_batches = found.progress["micro_batches"]
        self.meter.tokens = found.progress["tokens"]
        self.meter.seconds = found.progress["seconds"]
        self.held_out_loss = found.progress["held_out_loss"]
        self.clip.load_state_dict(found.progress["clipping"])
        if self.scaler is not None:
            self.scaler.load_state_dict(found.progress["scaler"])
        return found

    def _open_metrics(self) -> AbstractContextManager[MetricsFile | None]:
        if rank() != 0:
            return nullcontext()
        board = self.folder / "tensorboard" if self.config.tensorboard else None
        return MetricsFile(self.folder / "metrics.jsonl", self.step, board)

    def _require_finite(self, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {norm}"
        raise FloatingPointError(
            f"the {what} at step {self.step + 1}: nothing was updated and the checkpoints in "
            f"{self.folder / 'checkpoints'} are as they were; lower lr, lengthen the warm-up or "
            "look at the data of this step"
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
