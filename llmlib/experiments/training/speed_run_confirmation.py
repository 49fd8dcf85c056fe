"""The speed run at full length: nanoGPT's defaults and the stack that screening left, five seeds.

Both read the whole training side; the held-out text is read here alone, once, at the end of each
run. The loss to reach is the defaults' mean after their whole run from other seeds. The stack's
schedule ends when its time is up, so that a run either stands at the target by then or has failed.
"""

import math
import statistics
from collections.abc import Callable

from rich.table import Table

from llmlib.core.statistics import t_test
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.training.speed_run.loop import loss_on, step_seconds, train_for
from llmlib.experiments.training.speed_run.recipe import Recipe, recipe_of
from llmlib.experiments.training.speed_run.text import speed_text
from llmlib.experiments.training.speed_run_screening import CHEAP, changes_of

TARGET_SEEDS = (200, 201, 202)
SEEDS = (0, 1, 2, 3, 4)
BASELINE_STEPS = 468  # four minutes by the screening's clock
STACK = CHEAP
STACK_STEPS = 107  # between a quarter and 0.28 of that
RACERS: dict[str, Run] = {
    "defaults": {"changes": {}, "steps": BASELINE_STEPS},
    "stack": {"changes": changes_of(STACK), "steps": STACK_STEPS},
    "clock": {"changes": changes_of(STACK), "steps": 2},  # for its `pace` alone
}
"""Neighbours on the machine change seconds and no losses, so that the step's time is measured by
itself, while the machine is quiet."""


def measure(run: Run, *, rows: int = 0, rounds: int = 6) -> Run:
    text, recipe = speed_text(), recipe_of(run["changes"])
    defaults, mine = step_seconds((Recipe(), recipe), text.whole, rounds=rounds)
    model, found = train_for(recipe, text.whole, steps=run["steps"], seed=run["seed"])
    return {
        "held_out_loss": round(loss_on(model, text.held_out, rows=rows), 4),
        "pace": round(mine / defaults, 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text.sha256,
        **found,
    }


def target(runs: Runs) -> float:
    """Return the loss to reach."""
    return statistics.mean(runs.values("held_out_loss", racer="target"))


def below_target(runs: Runs) -> list[float]:
    """Return by how many nats each run of the stack is below the target."""
    return [target(runs) - loss for loss in runs.values("held_out_loss", racer="stack")]


def shares(runs: Runs) -> dict[str, list[float]]:
    """Return the stack's time over the defaults', by three clocks.

    By steps it is their number times the pace of a step, for each reading of the clock; by
    processor and wall the whole runs' seconds, seed by seed.
    """
    steps = STACK_STEPS / BASELINE_STEPS
    found = {"steps": [steps * pace for pace in runs.values("pace", racer="clock")]}
    for name, field in (("processor", "training_cpu_seconds"), ("wall", "training_seconds")):
        first, second = (runs.values(field, racer=racer) for racer in ("stack", "defaults"))
        found[name] = [a / b for a, b in zip(first, second, strict=True)]
    return found


def one_sided(differences: list[float]) -> float:
    """Return the p-value of the hypothesis that the differences' mean is not above zero.

    Example:
        >>> round(one_sided([1.0, 2.0, 3.0]), 4)
        0.0371
    """
    both = t_test(differences)
    return both / 2 if statistics.mean(differences) > 0 else 1 - both / 2


def p_values(runs: Runs) -> dict[str, float]:
    """Return the p-values of the two halves of the claim: the loss reached, and the time taken."""
    found = {"loss": one_sided(below_target(runs))}
    for clock, values in shares(runs).items():
        found[clock] = one_sided([math.log(1 / 3) - math.log(share) for share in values])
    return found


def _significant(name: str, level: float = 0.01) -> Callable[[Runs], bool]:
    return lambda runs: p_values(runs)[name] < level


def race_page(runs: Runs) -> str:
    """Write what the race gave as the table of its page in the book."""
    p_of = {name: f"{p:.0e}" for name, p in p_values(runs).items()}
    ends = runs.values("held_out_loss", racer="stack")
    rows = [
        ("", "the five seeds", "threshold", "p, one-sided"),
        ("---",) * 4,
        ("held-out loss of the stack, nats", _listed(ends), f"{target(runs):.3f}", p_of["loss"]),
    ]
    names = {
        "steps": "time over the defaults', by the clock of steps",
        "processor": "the same, processor seconds of the whole runs",
        "wall": "the same, seconds on the wall",
    }
    found = shares(runs)
    rows += [(words, _listed(found[name]), "1/3", p_of[name]) for name, words in names.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def lay_out(runs: Runs) -> Table:
    table = Table("racer", "seed", "steps", "held-out loss", "processor s", "wall s", "pace")
    for run in runs:
        table.add_row(
            *(str(run[name]) for name in ("racer", "seed", "steps", "held_out_loss",
              "training_cpu_seconds", "training_seconds", "pace"))
        )  # fmt: skip
    table.caption = f"target {target(runs):.4f}; p {p_values(runs)}"
    return table


EXPERIMENT = Experiment(
    conditions=[
        *({"racer": racer, **how} for racer, how in RACERS.items()),
        *({"racer": "target", **RACERS["defaults"], "seed": seed} for seed in TARGET_SEEDS),
    ],
    seeds=SEEDS,
    measure=measure,
    equal=("text_sha256",),
    depends=(
        "llmlib.training.optimizers.muon",
        "llmlib.training.optimizers.combined",
        "llmlib.training.optimizers.schedules",
    ),
    table=lay_out,
    claims={
        "": {
            "the stack reaches the defaults' loss from five of five seeds, p below 0.01": (
                lambda runs: min(below_target(runs)) > 0 and _significant("loss")(runs)
            ),
            "in less than a third of their processor time, p below 0.01": (
                _significant("processor")
            ),
            "by the clock of steps, read on a quiet machine, p is below 0.01 too": (
                _significant("steps")
            ),
            "by the wall, on a machine that others used, p is below 0.05 only": (
                lambda runs: 0.01 < p_values(runs)["wall"] < 0.05
            ),
        }
    },
)
