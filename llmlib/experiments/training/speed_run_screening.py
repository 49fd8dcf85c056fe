"""Changes to nanoGPT's defaults, each given two minutes of one processor: what helps and what not.

An entry names the one that it changes. Three seeds are named, and an entry that is behind by more
than `GIVEN_UP` after its first, far beyond what seeds differ by, has no others, nor has what
changes it; with one seed they tell large differences alone. The measure is the loss on modules of
the training side; the held-out text is left to `speed_run_confirmation`.
"""

from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from llmlib.core.statistics import Interval, paired_interval
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.training.speed_run.loop import loss_on, step_seconds, train_for
from llmlib.experiments.training.speed_run.recipe import Recipe, recipe_of
from llmlib.experiments.training.speed_run.text import speed_text

SECONDS = 120
"""Processor time of a run, by its number of steps and the clock below."""
BASELINE_STEP = 0.513
"""Processor seconds of the baseline's step, clocked before the first run on the machine of the
record, on which every entry's step is that times its `pace`."""
SEEDS = (100, 101, 102)
GIVEN_UP = 0.03
"""Nats by which a first seed may be behind before the others are saved."""
BASELINE = "nanoGPT's defaults"


@dataclass(frozen=True, kw_only=True)
class Entry:
    name: str
    onto: str = ""
    """The entry that this one changes; empty for the defaults themselves."""
    changes: dict[str, Any] = field(default_factory=dict)
    steps: int
    seeds: tuple[int, ...] = SEEDS
    idea: str
    """What is changed, and whose idea it is."""


FAST, TUNED = "AdamW at 4e-3", "AdamW at 1.5e-3"
LAPTOP = "the laptop's recipe so far"
SMALL_BATCH = "a batch of 1,024 tokens"
CHEAP = "squared ReLU, three steps of Muon"

ENTRIES = (
    Entry(
        name=BASELINE,
        idea="GPT-2's architecture, AdamW at 6e-4, 2,048 tokens an update",
        steps=234,
    ),
    Entry(
        name=FAST,
        onto=BASELINE,
        changes={"lr": 4e-3},
        idea="the rate alone, nearly seven times as large",
        steps=234,
        seeds=(100,),
    ),
    Entry(
        name=TUNED,
        onto=BASELINE,
        changes={"lr": 1.5e-3},
        idea="the rate alone, two and a half times as large",
        steps=234,
    ),
    Entry(
        name=LAPTOP,
        onto=BASELINE,
        changes={
            "norm": "rms",
            "position": "rope",
            "activation": "swiglu",
            "qk_norm": True,
            "optimizer": "muon",
            "lr": 4e-3,
            "weight_decay": 0.0,
            "clip": 0.0,
            "schedule": "wsd",
            "final": 0.0,
        },
        idea="LLaMA's blocks with normed queries and keys, Muon, half of the run falling to zero",
        steps=175,
    ),
    Entry(
        name=CHEAP,
        onto=LAPTOP,
        changes={"activation": "relu_squared", "newton_steps": 3},
        idea="squared ReLU for SwiGLU (So et al. 2021), three Newton-Schulz steps for five",
        steps=203,
    ),
    Entry(
        name=SMALL_BATCH,
        onto=CHEAP,
        changes={"batch": 4},
        idea="half the tokens an update, and so nearly twice the updates",
        steps=344,
        seeds=(100,),
    ),
    Entry(
        name="a batch of 512 tokens",
        onto=SMALL_BATCH,
        changes={"batch": 2},
        idea="half the tokens an update again",
        steps=534,
        seeds=(100,),
    ),
    Entry(
        name="falling from the start",
        onto=SMALL_BATCH,
        changes={"schedule": "linear", "warmup": 0.0},
        idea="the rate falls to zero over the whole run, without warm-up",
        steps=344,
        seeds=(100,),
    ),
    Entry(
        name="the batch grows",
        onto=CHEAP,
        changes={"ramp": [[0.5, 4, 256]]},
        idea="1,024 tokens an update in the first half of the updates",
        steps=259,
        seeds=(100,),
    ),
)


def changes_of(name: str) -> dict[str, Any]:
    """Gather what an entry changes of the defaults, with what the one before it did."""
    entry = {entry.name: entry for entry in ENTRIES}[name]
    return {**(changes_of(entry.onto) if entry.onto else {}), **entry.changes}


def conditions() -> list[Run]:
    found: list[Run] = []
    for entry in ENTRIES:
        run = {"entry": entry.name, "changes": changes_of(entry.name), "steps": entry.steps}
        found += [run] if entry.seeds == SEEDS else [{**run, "seed": s} for s in entry.seeds]
    return found


def measure(run: Run, *, rows: int = 0, rounds: int = 3) -> Run:
    text, recipe = speed_text(), recipe_of(run["changes"])
    baseline, mine = step_seconds((Recipe(), recipe), text.part, rounds=rounds)
    model, found = train_for(recipe, text.part, steps=run["steps"], seed=run["seed"])
    return {
        "watched_loss": round(loss_on(model, text.watched, rows=rows), 4),
        "pace": round(mine / baseline, 3),
        "baseline_step_seconds": round(baseline, 3),
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text.sha256,
        **found,
    }


def gains(runs: Runs, name: str, other: str = "") -> list[float]:
    """Return by how many nats an entry ends below another, by default the one it changes.

    One value a seed that both have.
    """
    entry = {entry.name: entry for entry in ENTRIES}[name]
    theirs = {r["seed"]: r["watched_loss"] for r in runs.where(entry=other or entry.onto)}
    mine = {r["seed"]: r["watched_loss"] for r in runs.where(entry=name)}
    return [theirs[seed] - loss for seed, loss in mine.items() if seed in theirs]


def interval(runs: Runs, name: str) -> Interval:
    """Return what an entry gains over the one it changes, in nats, from its seeds."""
    found = gains(runs, name)
    return paired_interval(found, [0.0] * len(found))


def verdict(runs: Runs, entry: Entry) -> str:
    """Say what a screened change was worth, in nats."""
    if not entry.onto:
        return ""
    found = gains(runs, entry.name)
    if len(found) == 1:
        return f"{found[0]:+.3f}, one seed" + ": given up" * (found[0] < -GIVEN_UP)
    gain = interval(runs, entry.name)
    said = "no difference shown"
    if gain.shows_difference:
        said = "helps" if gain.value > 0 else "hurts"
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]: {said}"


def log(runs: Runs) -> list[tuple[str, ...]]:
    """Lay the log out, a row an entry, in the order in which they were tried."""
    return [
        (
            entry.name,
            entry.idea,
            entry.onto,
            str(entry.steps),
            f"{runs.values('watched_loss', entry=entry.name, seed=SEEDS[0])[0]:.3f}",
            verdict(runs, entry),
        )
        for entry in ENTRIES
    ]


HEAD = ("entry", "what is changed", "of", "steps", "loss, first seed", "gain, nats")


def log_page(runs: Runs) -> str:
    """Write the log as the table of its page in the book."""
    rows = [HEAD, ("---",) * len(HEAD), *log(runs)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def lay_out(runs: Runs) -> Table:
    table = Table(*HEAD)
    for row in log(runs):
        table.add_row(*row)
    return table


EXPERIMENT = Experiment(
    conditions=conditions(),
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
            "Muon with LLaMA's block ends more than 0.8 nats below the defaults, three seeds": (
                lambda runs: interval(runs, LAPTOP).low > 0.8
            ),
            "a better rate for AdamW alone gains less than half as much": (
                lambda runs: interval(runs, TUNED).high < interval(runs, LAPTOP).low / 2
            ),
            "half the tokens an update lose more than 0.05 nats at two minutes, one seed": (
                lambda runs: gains(runs, SMALL_BATCH)[0] < -0.05
            ),
            "a quarter of them lose more again, one seed": (
                lambda runs: gains(runs, "a batch of 512 tokens")[0] < -0.05
            ),
            "squared ReLU with three Newton-Schulz steps gains in each of three seeds": (
                lambda runs: min(gains(runs, CHEAP)) > 0.03
            ),
        }
    },
)
