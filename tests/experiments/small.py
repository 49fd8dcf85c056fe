"""A small experiment to try the machinery of experiments on: a measurement by hand."""

from collections.abc import Callable

from llmlib.experiments.experiment import Experiment, Run, Runs


def measure(run: Run) -> Run:
    return {
        "loss": 2.0 - run["rank"] / 10 + run["seed"],
        "parts": {"a": [run["seed"], 0.5], "b": run["seed"]},
    }


def is_better(rank: int, other: int) -> Callable[[Runs], bool]:
    return lambda runs: runs.difference("loss", rank=(rank, other), tied=True).high < 0


SMALL = Experiment(
    conditions={"rank": (1, 4), "tied": (False, True)},
    seeds=(0, 1, 2),
    measure=measure,
    claims={
        "adapt.lora": {"rank 4 is better": is_better(4, 1)},
        "": {"rank 1 is better": is_better(1, 4)},
    },
)


def made() -> list[Run]:
    about = {"machine": "m", "threads": 1, "cpu_seconds": 1.0}
    return [run | measure(run) | about for run in SMALL.plan()]
