"""The line that a finished run leaves for the repository: numbers and their origin, no text."""

import json
from pathlib import Path
from typing import Any


def result_line(report: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a report that is committed: numbers, settings and their origin."""
    training, evaluation, data = report["training"], report["evaluation"], report["data"]
    return {
        **{key: report[key] for key in ("preset", "seed", "command", "machine", "versions")},
        "model_bits_per_byte": round(evaluation["model"]["bits_per_byte"], 5),
        **{
            key: round(value, 5)
            for key, value in evaluation["baselines"].items()
            if key.endswith("bits_per_byte")
        },
        "parameters": report["model"]["parameters"],
        "model": report["model"],
        "train": report["optimizer"],
        **{
            key: training[key]
            for key in ("steps", "tokens", "training_seconds", "tokens_per_second", "mfu",
                        "precision", "peak_memory_bytes")
        },
        "seconds": report["seconds"],
        "train_sha256": data["clean"]["train_sha256"],
        "held_out_sha256": data["clean"]["held_out_sha256"],
        "tokenizer_sha256": data["tokenizer"]["sha256"],
        "held_out_bytes": evaluation["model"]["bytes"],
    }  # fmt: skip


def append_result(report: dict[str, Any], path: Path) -> None:
    """Add a run's line to a results file, made if missing, unless the same run is there already.

    Raises:
        ValueError: When the file holds a line that is not JSON.
    """
    line = json.dumps(result_line(report))
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for number, text in enumerate(known, 1):
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
    if line not in known:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
