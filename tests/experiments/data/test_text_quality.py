"""Raw against cleaned text: the piles, and the chain that cleans them."""

import pytest
import torch

from llmlib.data import Document
from llmlib.data.cleaning import reference_texts
from llmlib.experiments.data import text_quality
from llmlib.experiments.data.text_quality import (
    BATCH,
    LENGTH,
    PILES,
    STEPS,
    TEXTS,
    PileTokens,
    cleaning_chain,
    measure,
    part,
)
from llmlib.experiments.short_text import VOCAB_SIZE


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


def test_a_run_counts_how_often_its_pile_is_read(tokens, monkeypatch):
    monkeypatch.setattr(text_quality, "LENGTH", 16)
    run = measure({"pile": "read four times", "text": "cleaned", "seed": 0}, steps=3)
    assert run["epochs"] == pytest.approx(3 * BATCH * 16 / run["pile_tokens"], abs=1e-3)
    assert set(run["losses"]) == set(TEXTS) and run["tokens"] == 3 * BATCH * 16


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
