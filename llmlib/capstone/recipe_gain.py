"""What the laptop's recipe gained over the one before it: the committed runs of both, compared."""

import json
from typing import Any

from llmlib.core.resources import resource
from llmlib.core.statistics import Interval, paired_interval

EARLIER, TODAY = "capstone_before_speed_run", "capstone_laptop"


def recipe_runs(name: str) -> list[dict[str, Any]]:
    """Return the committed runs of a recipe, by seed."""
    lines = resource(f"results/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda run: run["seed"])


def recipe_gain() -> Interval:
    """Return by how many bits per byte the recipe is lower than the one before, seed by seed."""
    before, after = map(recipe_runs, (EARLIER, TODAY))
    same = ("seed", "tokens", "train_sha256", "held_out_sha256", "tokenizer_sha256")
    assert [[r[key] for key in same] for r in before] == [[r[key] for key in same] for r in after]
    return paired_interval(*([r["model_bits_per_byte"] for r in runs] for runs in (before, after)))


def describe_gain() -> str:
    """Say in a sentence what the recipe gained, for the report of a run."""
    gain, runs = recipe_gain(), recipe_runs(TODAY)
    ends = ", ".join(f"{run['model_bits_per_byte']:.3f}" for run in runs)
    verdict = "lower" if gain.low > 0 else "higher" if gain.high < 0 else "not shown to differ"
    return (
        "The recipe is the speed run's: squared ReLU for SwiGLU at as many parameters, and three "
        f"Newton-Schulz steps for five. Over seeds 0, 1 and 2 it ends at {ends} bits per byte, "
        f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] below the recipe before it "
        f"({verdict} at 95%), on the same tokens and the same held-out bytes; a step takes less "
        f"time (`data/results/{TODAY}.jsonl`, `data/results/{EARLIER}.jsonl`, "
        "`python -m llmlib.experiments laptop_step --table`)."
    )
