"""The lines of a record, read and written: a JSON object a run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmlib.core.files import atomic_write
from llmlib.core.resources import resource


def read_runs(name: str) -> list[dict[str, Any]]:
    """Read the committed runs of an experiment, as `norm_placement`, in the order of making."""
    return load_record(resource(f"results/{name}.jsonl"))


def load_record(record: Path) -> list[dict[str, Any]]:
    """Read the lines of a record, a run each; none where there is no such file.

    Raises:
        ValueError: If a line is no JSON object, as where a file was cut.
    """
    runs = []
    lines = record.read_text(encoding="utf-8").split("\n") if record.exists() else [""]
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line:
            continue  # behind the last line's end
        try:
            run = json.loads(line)
        except json.JSONDecodeError:
            run = None
        if not isinstance(run, dict):
            raise ValueError(
                f"{record}, line {number} is no run: {line[:40]!r}; take the line away, and the "
                "experiment's command makes its run again"
            )
        runs.append(run)
    return runs


def store_record(record: Path, runs: Iterable[dict[str, Any]]) -> None:
    """Write a record whole, or not at all."""
    atomic_write(record, "".join(json.dumps(run) + "\n" for run in runs))
