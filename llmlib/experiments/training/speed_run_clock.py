"""How long a step of each entry of the speed run's log takes, beside the defaults' in the same run.

Steps are taken in turns on one thread, and the least of the rounds counts, so that neighbours on
the machine matter little; still, it is to be run while the machine is quiet. Beside them stands
what a table of pairs of tokens reaches, and the time that counting them takes.
"""

import statistics
import time

from rich.table import Table

from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.training.speed_run.loop import step_seconds
from llmlib.experiments.training.speed_run.pairs import pairs_loss
from llmlib.experiments.training.speed_run.recipe import VOCAB_SIZE, Recipe, recipe_of
from llmlib.experiments.training.speed_run.text import speed_text
from llmlib.experiments.training.speed_run_screening import (
    BASELINE_STEP,
    CHEAP,
    ENTRIES,
    LAPTOP,
    SECONDS,
    SMALL_BATCH,
    changes_of,
)


def measure(run: Run, *, rounds: int = 3) -> Run:
    text = speed_text()
    recipes = Recipe(), recipe_of(run["changes"])
    baseline, mine = step_seconds(recipes, text.part, rounds=rounds)
    began = time.process_time()
    counted = pairs_loss(text.whole, text.held_out, VOCAB_SIZE)
    return {
        "pace": round(mine / baseline, 3),
        "baseline_step_seconds": round(baseline, 3),
        "pairs_held_out_loss": round(counted, 4),
        "pairs_cpu_seconds": round(time.process_time() - began, 2),
        "text_sha256": text.sha256,
    }


def pace(runs: Runs, name: str) -> float:
    """Return an entry's step as a multiple of the defaults', the median of the readings."""
    return statistics.median(runs.values("pace", entry=name))


def _two_minutes(runs: Runs) -> bool:
    return all(
        abs(entry.steps * pace(runs, entry.name) * BASELINE_STEP / SECONDS - 1) < 0.15
        for entry in ENTRIES
    )


def lay_out(runs: Runs) -> Table:
    table = Table("entry", "steps", "pace", "seconds of its run, by the clock")
    for entry in ENTRIES:
        found = pace(runs, entry.name)
        seconds = entry.steps * found * BASELINE_STEP
        table.add_row(entry.name, str(entry.steps), f"{found:.3f}", f"{seconds:.0f}")
    return table


EXPERIMENT = Experiment(
    conditions=[{"entry": e.name, "changes": changes_of(e.name)} for e in ENTRIES],
    seeds=(0, 1, 2),
    measure=measure,
    equal=("text_sha256", "pairs_held_out_loss"),
    depends=(
        "llmlib.architecture.attention.multihead",
        "llmlib.architecture.feedforward",
        "llmlib.training.optimizers.muon",
    ),
    tolerance=0.3,
    table=lay_out,
    claims={
        "": {
            "every entry's run is two minutes by the clock, within 15%": _two_minutes,
            "Muon and LLaMA's block make a step a quarter dearer at least": lambda runs: (
                pace(runs, LAPTOP) > 1.25
            ),
            "squared ReLU and three Newton-Schulz steps take back some of it": lambda runs: (
                pace(runs, CHEAP) < pace(runs, LAPTOP)
            ),
            "half the batch costs more than half the step": lambda runs: (
                pace(runs, SMALL_BATCH) > 0.5 * pace(runs, CHEAP)
            ),
        }
    },
)
