"""Raw against cleaned text: the piles, and what the committed runs say."""

import pytest
import torch

from llmlib.core.statistics import t_interval
from llmlib.data import Document
from llmlib.data.cleaning import reference_texts
from llmlib.experiments.data import text_quality
from llmlib.experiments.data.text_quality import (
    BATCH,
    LENGTH,
    PILES,
    SEEDS,
    STEPS,
    TEXTS,
    PileTokens,
    cleaning_chain,
    part,
    perform,
    plan,
)
from llmlib.experiments.records import read_runs
from llmlib.experiments.short_text import VOCAB_SIZE

NAME = "text_quality"


@pytest.fixture
def tokens(monkeypatch) -> PileTokens:
    """A pile of documents of one token each, of which every other one is kept, without its end."""
    raw = [[i % VOCAB_SIZE] * 997 for i in range(3 * STEPS)]
    kept = [(i, ids[:500]) for i, ids in enumerate(raw) if i % 2]
    held_out = {kind: torch.arange(2003) % VOCAB_SIZE for kind in TEXTS}
    small = PileTokens(raw, kept, held_out, dict.fromkeys(TEXTS, 6.0), "0")
    monkeypatch.setattr(text_quality, "pile_tokens", lambda: small)
    return small


def test_a_smaller_pile_is_a_beginning_and_its_cleaned_part_is_of_the_same_documents(tokens):
    read = STEPS * BATCH * LENGTH
    for size in ("read once", "read four times"):
        raw, cleaned = part(size, cleaned=False), part(size, cleaned=True)
        assert PILES[size] * read <= len(raw) < PILES[size] * read + 997
        documents = len(raw) // 997
        assert len(cleaned) == 500 * (documents // 2)
        assert cleaned[0] == 1 and raw[0] == 0
    assert len(part("plenty", cleaned=False)) == 3 * STEPS * 997


def test_a_run_counts_how_often_its_pile_is_read(tokens):
    run = perform({"pile": "read four times", "text": "cleaned", "seed": 0}, steps=3)
    assert run["epochs"] == pytest.approx(3 * BATCH * LENGTH / run["pile_tokens"], abs=1e-3)
    assert set(run["losses"]) == set(TEXTS) and run["tokens"] == 3 * BATCH * LENGTH


@pytest.mark.slow
def test_the_chain_drops_what_is_no_prose():
    prose = reference_texts("train", 200)
    chain = cleaning_chain(prose)
    junk = [
        "Home | Cart | Blog | Imprint | Page 3 of 8 © 2004",
        "03:22 8f4f78de5857 0.4342 OK\n" * 3,
        "function f(x) { return x + 1; }",
        "Das ist ein Satz, der auf Deutsch geschrieben ist.",
    ]
    pages = [Document(text=text, source="x") for text in [*junk, *prose[:40], prose[0]]]
    kept = [d.text for d in chain.run(pages)]
    assert not set(kept) & set(junk)
    assert len(kept) == len(set(kept)) > 20


def against_raw(size: str, kind: str) -> tuple[float, float, float]:
    """Mean and 95% interval over seeds of what cleaning adds to the loss on a kind of text."""
    runs = {(run["pile"], run["text"], run["seed"]): run["losses"][kind] for run in read_runs(NAME)}
    return t_interval([runs[size, "cleaned", s] - runs[size, "raw", s] for s in SEEDS])


def test_the_record_holds_every_run_once_at_equal_tokens():
    runs = read_runs(NAME)
    found = [{key: run[key] for key in ("pile", "text", "seed")} for run in runs]
    assert sorted(found, key=str) == sorted(plan(), key=str)
    assert len(SEEDS) == 3
    assert len({(run["text_sha256"], run["tokens"], run["steps"]) for run in runs}) == 1
    for run in runs:
        if run["pile"] == "plenty":
            assert run["epochs"] < 1, "no token is read twice"


@pytest.mark.covers("data.effect-quality")
@pytest.mark.parametrize("kind", ["clean prose", "documentation"])
@pytest.mark.parametrize("size", list(PILES))
def test_cleaning_helps_on_clean_text_although_its_tokens_come_round_more_often(size, kind):
    assert against_raw(size, kind)[2] < 0
    epochs = {run["text"]: run["epochs"] for run in read_runs(NAME) if run["pile"] == size}
    assert epochs["cleaned"] > 1.9 * epochs["raw"]


@pytest.mark.covers("data.effect-quality")
@pytest.mark.parametrize("size", list(PILES))
def test_cleaning_harms_on_the_kind_of_text_that_it_throws_away(size):
    assert against_raw(size, "web files")[1] > 0.1


@pytest.mark.covers("data.effect-quality")
def test_the_models_are_better_than_a_table_of_frequencies():
    for run in read_runs(NAME):
        for kind, loss in run["losses"].items():
            assert loss < run["unigram_losses"][kind] - 0.4 < run["chance_loss"] - 0.4
