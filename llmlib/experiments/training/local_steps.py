"""Workers that meet after every step, after eight or after thirty-two, on a text; five seeds."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from llmlib.core.batch import Batch, LossFn
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_text import short_text
from llmlib.experiments.short_training import loss_on_text, random_rows, small_decoder
from llmlib.training.objectives.causal_and_prefix import language_modeling
from llmlib.training.objectives.next_token import next_token_loss

SEEDS = (0, 1, 2, 3, 4)
WORKERS, ROWS, LENGTH, STEPS, RATE = 4, 8, 32, 192, 4e-3
WIDTH, LAYERS = 32, 2
WAYS: dict[str, tuple[int, float, float] | None] = {
    "every step": None,
    "one worker": None,
    "averaged every 32": (32, 1.0, 0.0),
    "DiLoCo every 8": (8, 0.7, 0.9),
    "DiLoCo every 32": (32, 0.7, 0.9),
    "away every 32": (32, -0.7, 0.9),
}
"""Steps of a lap, rate and momentum of the outer optimizer: a plain average, and the paper's."""


class Outer:
    """Meetings of workers that are models of this process, one `DiLoCo` for all of them.

    Args:
        lr: Rate of the outer step; a negative one goes away from where the workers went.
    """

    def __init__(self, models: Sequence[nn.Module], *, lr: float, momentum: float) -> None:
        self.workers = [list(model.parameters()) for model in models]
        self.shared = [p.detach().clone().requires_grad_() for p in self.workers[0]]
        self.sign = math.copysign(1.0, lr)  # torch takes no negative rate
        self.optimizer = torch.optim.SGD(
            self.shared, lr=abs(lr), momentum=momentum, nesterov=momentum > 0
        )

    @torch.no_grad()
    def meet(self) -> None:
        """Step the shared weights by the mean of what all changed, and give them to all."""
        for weight, *own in zip(self.shared, *self.workers, strict=True):
            weight.grad = self.sign * torch.stack([weight - mine for mine in own]).mean(0)
        self.optimizer.step()
        for weight, *own in zip(self.shared, *self.workers, strict=True):
            for mine in own:
                mine.copy_(weight)


def train_workers(
    models: Sequence[nn.Module],
    batches: Callable[[int, int], Batch],
    loss_fn: LossFn,
    inner: Callable[[list[Tensor]], torch.optim.Optimizer],
    *,
    steps: int,
    laps: int,
    outer: Outer | None,
) -> list[float]:
    """Train equal models alone, each on `batches(worker, step)`, a meeting after every lap.

    Returns:
        The mean of the workers' losses before each update.
    """
    optimizers = [inner(list(model.parameters())) for model in models]
    losses = []
    for step in range(steps):
        found = []
        for worker, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
            loss = loss_fn(model, batches(worker, step))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        losses.append(sum(found) / len(found))
        if outer and (step + 1) % laps == 0:
            outer.meet()
    return losses


def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
    """Return Adam as `train_briefly` has it."""
    return torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.98), foreach=True)


def measure(run: Run, *, steps: int = STEPS, rows: int = 160) -> Run:
    """Train small decoders in one way; losses are in nats a token, bytes what a worker sends."""
    text, seed, way = short_text(), run["seed"], WAYS[run["way"]]
    sources = [
        random_rows(text.train, length=LENGTH, batch=ROWS, seed=100 * seed + worker)
        for worker in range(1 if run["way"] == "one worker" else WORKERS)
    ]

    def of_one(worker: int, step: int) -> Batch:
        return language_modeling(sources[worker](step))

    def of_all(worker: int, step: int) -> Batch:
        return language_modeling(torch.cat([source(step) for source in sources]))

    # Workers that meet at every step are one model that reads everybody's rows.
    models = [
        small_decoder(512, seed, length=LENGTH, d_model=WIDTH, n_layers=LAYERS)
        for _ in range(1 if way is None else WORKERS)
    ]
    laps, lr, momentum = way or (1, 0.0, 0.0)
    losses = train_workers(
        models,
        of_one if way else of_all,
        next_token_loss,
        adam,
        steps=steps,
        laps=laps,
        outer=Outer(models, lr=lr, momentum=momentum) if way else None,
    )
    size = sum(p.nbytes for p in models[0].parameters())
    share = 2 * (len(sources) - 1) / len(sources)
    return {
        "held_out_loss": round(loss_on_text(models[0], text.held_out, rows=rows, length=LENGTH), 4),
        "losses": [round(x, 3) for x in losses[::2]],
        "tokens": steps * len(sources) * ROWS * LENGTH,
        "sent_bytes": round(steps // laps * share * size),
        "parameter_bytes": size,
        "text_sha256": text.sha256,
    }


SELDOM = ("averaged every 32", "DiLoCo every 32")


def _above(runs: Runs, way: str, than: str, by: float = 0.0) -> bool:
    return runs.difference("held_out_loss", way=(way, than)).low > by


def _no_difference(runs: Runs, way: str, than: str) -> bool:
    found = runs.difference("held_out_loss", way=(way, than))
    return found.low <= 0 <= found.high


def _looks_well_and_goes_away(run: Run) -> bool:
    ends_of_laps = run["losses"][15:64:16]
    return max(ends_of_laps) < 5.8 and run["held_out_loss"] > 10


EXPERIMENT = Experiment(
    conditions={"way": tuple(WAYS)},
    seeds=SEEDS,
    measure=measure,
    equal=("parameter_bytes", "text_sha256"),
    claims={
        "train.local-sgd": {
            "four workers that meet every 32nd step send a 32nd of what a sum every step sends": (
                lambda runs: all(
                    32 * run["sent_bytes"] == every["sent_bytes"]
                    for way in SELDOM
                    for run, every in zip(
                        runs.where(way=way), runs.where(way="every step"), strict=True
                    )
                )
            ),
            "they end at least 0.2 nats above a sum every step": lambda runs: all(
                _above(runs, way, "every step", 0.2) for way in SELDOM
            ),
            "and below one worker alone": lambda runs: all(
                _above(runs, "one worker", way) for way in SELDOM
            ),
            "DiLoCo's outer momentum is not shown to differ from a plain average in six meetings": (
                lambda runs: _no_difference(runs, "DiLoCo every 32", "averaged every 32")
            ),
            "with the same outer settings and a meeting every eighth step it ends above one worker "
            "alone": lambda runs: _above(runs, "DiLoCo every 8", "one worker"),
            "with the outer step turned round the workers' loss at the end of each of the first "
            "four laps is below 5.8 nats in every seed, and held-out text ends above 10": (
                lambda runs: all(
                    _looks_well_and_goes_away(run) for run in runs.where(way="away every 32")
                )
            ),
        },
    },
)
