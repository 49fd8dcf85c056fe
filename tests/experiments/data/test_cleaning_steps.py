"""What cleaning is worth: the texts of the record, made again, and what a run counts."""

import math

import pytest
import torch

from llmlib.data.corpora.document import corpus_bytes, corpus_sha256
from llmlib.experiments.data import cleaning_steps
from llmlib.experiments.data.cleaning_steps import (
    EXPERIMENT,
    STEPS_OF_CLEANING,
    VOCAB_SIZE,
    CleanedText,
    cleaned_documents,
    measure,
)


@pytest.mark.slow
def test_the_texts_are_those_of_the_record() -> None:
    parts, held_out = cleaned_documents()
    measured = {document.meta["module"] for document in held_out}
    for name, documents in parts.items():
        assert measured.isdisjoint(document.meta["module"] for document in documents)
        assert {run["train_bytes"] for run in EXPERIMENT.runs().where(after=name)} == {
            corpus_bytes(documents)
        }
    sha256 = corpus_sha256([*held_out, *parts[STEPS_OF_CLEANING[-1]]])
    assert {run["text_sha256"] for run in EXPERIMENT.runs()} == {sha256}


def test_a_run_reads_its_own_text_and_counts_bits_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    train = {name: torch.full((211,), k) for k, name in enumerate(STEPS_OF_CLEANING)}
    text = CleanedText(train, dict.fromkeys(train, 499), torch.ones(307).long(), 4.0, "0")
    monkeypatch.setattr(cleaning_steps, "cleaned_text", lambda: text)
    monkeypatch.setattr(cleaning_steps, "LENGTH", 16)
    runs = [measure({"after": name, "seed": 5}, steps=2) for name in STEPS_OF_CLEANING]
    first, own, last = (run["bits_per_byte"] for run in runs)
    assert own < min(first, last), "what is measured stands in the second text alone"
    assert runs[0]["chance_bits_per_byte"] == math.log2(VOCAB_SIZE) / 4
    assert runs[0]["epochs"] == pytest.approx(2 * 16 * 16 / 211, abs=1e-3)
