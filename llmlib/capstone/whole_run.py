"""The whole capstone: from raw text to a trained, measured model and its report."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llmlib.capstone.measure import baselines, held_out_bits, load_trained, samples
from llmlib.capstone.prepare import Prepared, load_prepared, prepare
from llmlib.capstone.presets import Preset
from llmlib.capstone.pretrain import pretrain
from llmlib.capstone.report import assemble, write_report
from llmlib.capstone.stages import Stages
from llmlib.training.distributed import everyone, process_group, rank

PREPARATION_LIMIT_S = 8 * 3600  # the other processes wait so long for the first one's data


def run(
    preset: Preset,
    out: Path,
    *,
    seed: int = 0,
    device: str | None = None,
    command: str = "",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Do all of it, or what is left of it since the last start.

    Under torchrun the first process prepares the data and writes the report; all of them train.

    Args:
        preset: What to train on what.
        out: The run's folder; artifacts that are there and whole are not made again.
        seed: Decides weights, order of the data and samples.
        device: `cpu`, `cuda` ...; default: the best at hand.
        command: How the run was started, for the report.
        say: Called with a line about each stage.

    Returns:
        The report; empty on all processes but the first.

    Raises:
        ValueError: When corpus, settings or the folder's content do not fit together.
        OSError: When a file cannot be written.
    """
    if preset.threads:
        torch.set_num_threads(preset.threads)
    is_first = int(os.environ.get("RANK", "0")) == 0
    stages = Stages(out, say if is_first else _silent)
    if is_first:  # before the processes join: each of them then finds the data
        prepare(preset, out / "data", replace(stages, folder=out / "data"))
    with process_group(device, timeout_s=PREPARATION_LIMIT_S) as chosen:
        everyone(True)  # wait for the data
        record = prepare(preset, out / "data", Stages(out / "data", _silent))
        prepared = load_prepared(out / "data", record)
        training = _train(preset, prepared, out, seed, chosen, stages)
        if rank() != 0:
            return {}
    evaluation, texts = _evaluate(preset, prepared, training, out, seed, chosen, stages)
    report = assemble(
        preset,
        seed=seed,
        command=command,
        data=record,
        training=training,
        evaluation=evaluation,
        samples=texts,
    )
    say(f"report: {write_report(report, out)}")
    return report


def _train(
    preset: Preset, prepared: Prepared, out: Path, seed: int, device: torch.device, stages: Stages
) -> dict[str, Any]:
    def train() -> dict[str, Any]:
        return pretrain(preset, prepared, out, seed=seed, device=device)

    if rank() != 0:  # trains along; the first process keeps the record
        return {} if stages.is_done("pretrain") else train()
    return stages.once(
        "pretrain",
        {
            "seed": seed,
            "tokenizer": prepared.tokenizer.sha256,
            "model": preset.model.to_dict(),
            "train": preset.train.recipe(),
            "batch_size": preset.batch_size,
        },
        train,
    )


def _evaluate(
    preset: Preset,
    prepared: Prepared,
    training: dict[str, Any],
    out: Path,
    seed: int,
    device: torch.device,
    stages: Stages,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    checkpoint = out / training["checkpoint"]
    inputs = {"checkpoint": training["checkpoint"], "seed": seed}

    def evaluate() -> dict[str, Any]:
        model = load_trained(checkpoint, preset, device)
        return {
            "model": held_out_bits(model, prepared, preset),
            "baselines": baselines(prepared),
            "samples": samples(model, prepared, preset, seed=seed),
        }

    evaluation = dict(stages.once("evaluate", inputs, evaluate))
    return evaluation, evaluation.pop("samples")


def result_line(report: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a report that is committed: numbers, settings and their origin.

    Args:
        report: A finished run's report.

    Returns:
        JSON values without any text of the corpus.
    """
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
    """Add a run's line to a results file, unless the same run is there already.

    Args:
        report: A finished run's report.
        path: A JSON-lines file; made if missing.

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


def _silent(line: str) -> None:
    """Say nothing."""
