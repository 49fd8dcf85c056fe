"""Where the laptop's recipe comes from: what it gained in the committed races, what it left out.

The numbers are read from records that `llmlib.experiments` made.
"""

import json
from typing import Any

from llmlib.core.resources import resource
from llmlib.core.statistics import Interval, paired_interval

DEFAULTS, RECIPE = "nanoGPT's defaults", "the laptop's recipe so far"
CHANGED = {"activation": "relu_squared", "muon_steps": 3}
UNCHANGED = {"activation": "swiglu", "muon_steps": 5}


def gain_over_defaults() -> Interval:
    """Return by how many nats a token the recipe ends below nanoGPT's defaults at equal time."""
    lines = _lines("speed_run_screening")
    return _paired(lines, "watched_loss", {"entry": DEFAULTS}, {"entry": RECIPE})


def loss_of_changes() -> Interval:
    """Return by how many nats the speed run's last two changes end above the recipe."""
    return _paired(_lines("laptop_recipe"), "watched_loss", CHANGED, UNCHANGED)


def whole_run_with_changes() -> tuple[float, float]:
    """Return the bits per byte of a whole run with the two changes, and of the same seed's."""
    changed = _lines("capstone_speed_run_recipe")[0]
    same = ("seed", "tokens", "train_sha256", "held_out_sha256", "tokenizer_sha256")
    unchanged = next(run for run in _lines("capstone_laptop") if run["seed"] == changed["seed"])
    assert [changed[key] for key in same] == [unchanged[key] for key in same]
    return changed["model_bits_per_byte"], unchanged["model_bits_per_byte"]


def describe_recipe() -> str:
    """Say for a run's report what its recipe gained."""
    gained, lost = gain_over_defaults(), loss_of_changes()
    changed, unchanged = whole_run_with_changes()
    of_changes = f"{lost.value:+.3f} [{lost.low:+.3f}, {lost.high:+.3f}]"
    return (
        "The recipe, LLaMA's blocks with normed queries and keys, Muon, and a rate that falls over "
        "the second half, gained most in the speed run: on this text, after two minutes of one "
        f"core each, it ends {gained.value:.2f} [{gained.low:.2f}, {gained.high:.2f}] nats a token "
        "below nanoGPT's defaults. The last two changes that the race took, squared ReLU and three "
        "Newton-Schulz steps, are left out here, where no gain of theirs is shown: at a quarter of "
        f"this run's length {of_changes} nats; a whole run with them ends at {changed:.3f} bits "
        f"per byte, the same seed without at {unchanged:.3f} "
        "(`python -m llmlib.experiments speed_run_screening --table`, `laptop_recipe --table`)."
    )


def _lines(name: str) -> list[dict[str, Any]]:
    text = resource(f"results/{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _paired(
    lines: list[dict[str, Any]], measured: str, first: dict[str, Any], second: dict[str, Any]
) -> Interval:
    found = [
        {run["seed"]: run[measured] for run in lines if wanted.items() <= run.items()}
        for wanted in (first, second)
    ]
    seeds = sorted(found[0].keys() & found[1].keys())
    one, other = ([values[seed] for seed in seeds] for values in found)
    return paired_interval(one, other)
