"""The whole capstone: from raw text to a trained, measured model and its report."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llmlib.capstone.measure import baselines, held_out_bits, load_trained, samples
from llmlib.capstone.prepare import load_prepared, prepare
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
        prepare_preset(preset, out / "data", say)
    with process_group(device, timeout_s=PREPARATION_LIMIT_S) as chosen:
        everyone(True)  # wait for the data
        record = prepare_preset(preset, out / "data", _silent)
        prepared = load_prepared(out / "data", record)

        def train() -> dict[str, Any]:
            return pretrain(
                preset.model,
                replace(preset.train, seed=seed),
                prepared,
                out,
                batch_size=preset.batch_size,
                micro_batch=preset.micro_batch,
                device=chosen,
            )

        if rank() != 0:  # trains along; the first process keeps the record
            if not stages.is_done("pretrain"):
                train()
            return {}
        settings = {
            "seed": seed,
            "tokenizer": prepared.tokenizer.sha256,
            "model": preset.model.to_dict(),
            "train": preset.train.recipe(),
            "batch_size": preset.batch_size,
        }
        training = stages.once("pretrain", settings, train)

    def evaluate() -> dict[str, Any]:
        model = load_trained(out / training["checkpoint"], preset.model, chosen)
        return {
            "model": held_out_bits(model, prepared, stride=preset.stride),
            "baselines": baselines(prepared),
            "samples": samples(model, prepared, max_tokens=preset.sample_tokens, seed=seed),
        }

    evaluation = stages.once(
        "evaluate", {"checkpoint": training["checkpoint"], "seed": seed}, evaluate
    )
    origin = {"preset": preset.name, "seed": seed, "command": command, "corpus": preset.corpus.name}
    report = assemble(origin, preset.model, preset.train, record, training, evaluation)
    say(f"report: {write_report(report, out)}")
    return report


def prepare_preset(preset: Preset, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Prepare a preset's text in a folder, or read what was prepared there; see `prepare`."""
    return prepare(
        preset.corpus,
        Stages(folder, say),
        vocab_size=preset.model.vocab_size,
        seq_len=preset.seq_len,
        workers=preset.workers,
    )


def _silent(line: str) -> None:
    """Say nothing."""
