"""Repeated data: the diets, how copying is measured, and what the committed runs say."""

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core.statistics import t_interval
from llmlib.experiments.data import repeated_data
from llmlib.experiments.data.repeated_data import (
    LEFT_OUT,
    REPEATS,
    SEEDS,
    CodeText,
    copying,
    make_diet,
    passages,
    perform,
    plan,
)
from llmlib.experiments.records import read_runs
from llmlib.experiments.short_text import VOCAB_SIZE

NAME = "repeated_data"
TOKENS = torch.arange(8009)


@pytest.mark.parametrize("repeats", [1, 10, 50])
def test_a_tenth_of_the_rows_is_the_small_text_as_often_as_said(repeats):
    diet, fresh = (make_diet(TOKENS, r, 3, n_rows=1000, length=8) for r in (repeats, 1))
    counts = diet.rows[:, 0].unique(return_counts=True)[1]
    assert sorted(counts.tolist()) == [1] * (900 if repeats > 1 else 1000) + [repeats] * (
        100 // repeats if repeats > 1 else 0
    )
    assert len(diet.small) == 100 // repeats
    differ = (diet.rows != fresh.rows).any(dim=1)
    assert differ.sum() == (100 - 100 // repeats if repeats > 1 else 0)
    first = [(diet.rows[:, 0] == row).nonzero()[0, 0] for row in diet.small[:, 0]]
    assert torch.equal(diet.rows[torch.stack(first)], diet.small)
    assert not torch.equal(diet.rows, make_diet(TOKENS, repeats, 4, n_rows=1000, length=8).rows)


def test_without_the_tenth_the_other_rows_stay_in_order():
    left, fresh = (make_diet(TOKENS, r, 3, n_rows=1000, length=8) for r in (LEFT_OUT, 1))
    kept = set(left.rows[:, 0].tolist())
    assert left.rows[:, 0].tolist() == [x for x in fresh.rows[:, 0].tolist() if x in kept]
    assert len(kept) == 900 and kept.isdisjoint(left.small[:, 0].tolist())


def test_a_text_that_would_have_to_be_read_twice_is_refused():
    with pytest.raises(ValueError, match="1002 rows of 8 need more"):
        make_diet(TOKENS, 1, 0, n_rows=1002, length=8)


@torch.no_grad()
def test_copying_is_what_a_passage_costs_less_after_itself_than_after_another():
    torch.manual_seed(0)
    model = Transformer(ModelConfig(vocab_size=31, d_model=32, n_layers=1, n_heads=1,
                                    max_seq_len=64))  # fmt: skip
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(8)  # larger weights than at the start, so that the context matters
    sequences = torch.randint(31, (5, 7), generator=torch.Generator().manual_seed(0))
    by_loop = 0.0
    for n in range(5):
        for sign, before in ((1, sequences[n - 1]), (-1, sequences[n])):
            for t in range(1, 7):
                read = torch.cat((before, sequences[n, :t]))[None]
                by_loop -= sign * model(read)[0, -1].log_softmax(-1)[sequences[n, t]].item() / 30
    assert abs(by_loop) > 0.01
    assert copying(model, sequences) == pytest.approx(by_loop, abs=1e-4)


def test_passages_span_the_text():
    found = passages(TOKENS, 11, 9)
    assert found.shape == (11, 9)
    assert found[0, 0] == 0 and found[-1, -1] == 8008
    assert (found.diff(dim=1) == 1).all()


@pytest.mark.slow
def test_a_run_measures_the_model_it_trained(monkeypatch):
    code = CodeText(TOKENS % VOCAB_SIZE, TOKENS % VOCAB_SIZE, 5.0, "0")
    monkeypatch.setattr(repeated_data, "code_text", lambda: code)
    whole, short = (perform({"repeats": r, "seed": 0}, steps=3) for r in (10, LEFT_OUT))
    assert (whole["steps"], whole["tokens"]) == (3, 3 * 16 * 128)
    assert short["tokens"] < whole["tokens"] and whole["held_out"] < whole["chance_loss"] + 0.5


def column(key: str, repeats: int) -> list[float]:
    runs = sorted(read_runs(NAME), key=lambda run: run["seed"])
    return [run[key] for run in runs if run["repeats"] == repeats]


def against_fresh(key: str, repeats: int) -> tuple[float, float, float]:
    """Mean and 95% interval over seeds of what repeating adds to a measurement."""
    pairs = zip(column(key, repeats), column(key, 1), strict=True)
    return t_interval([a - b for a, b in pairs])


def test_the_record_holds_every_run_once_at_equal_tokens():
    runs = read_runs(NAME)
    found = [{"repeats": run["repeats"], "seed": run["seed"]} for run in runs]
    assert sorted(found, key=str) == sorted(plan(), key=str)
    assert len(SEEDS) == 3
    assert len({run["text_sha256"] for run in runs}) == 1
    assert len({run["tokens"] for run in runs if run["repeats"] != LEFT_OUT}) == 1
    for run in runs:
        assert run["held_out"] < run["unigram_loss"] - 1 < run["chance_loss"] - 1
        if run["repeats"] == LEFT_OUT:
            assert run["tokens"] == pytest.approx(0.9 * runs[0]["tokens"], rel=0.01)
        else:
            tenth = run["small_text_tokens"] * run["repeats"] / run["tokens"]
            assert tenth == pytest.approx(0.1, rel=0.2) and run["repeats"] in REPEATS


@pytest.mark.covers("data.effect-duplicates")
def test_a_small_text_read_a_hundred_times_is_learnt_by_heart():
    assert against_fresh("small_text", 100)[2] < -1
    assert max(column("small_text", 100)) < 0.5 * min(column("held_out", 100))


@pytest.mark.covers("data.effect-duplicates")
def test_the_repeated_tenth_costs_held_out_loss_beside_a_fresh_one_in_every_seed():
    pairs = zip(column("held_out", 100), column("held_out", 1), strict=True)
    assert all(repeated > fresh + 0.02 for repeated, fresh in pairs)
    mean, low, high = against_fresh("held_out", 100)
    assert low < 0 < mean, "three seeds leave the interval open by a hair"
    assert low > -0.01


@pytest.mark.covers("data.effect-duplicates")
def test_copying_is_there_and_no_harm_to_it_shows():
    for repeats in (*REPEATS, LEFT_OUT):
        assert t_interval(column("copying", repeats))[1] > 0, "chance is 0"
    mean, low, high = against_fresh("copying", 100)
    assert low < 0 < high and abs(mean) < 0.01
