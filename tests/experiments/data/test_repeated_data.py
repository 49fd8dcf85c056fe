"""Repeated data: the diets, and how copying is measured."""

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.experiments.data import repeated_data
from llmlib.experiments.data.repeated_data import LEFT_OUT, copying, make_diet, measure, passages
from llmlib.experiments.short_text import VOCAB_SIZE, ShortText

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


def test_a_run_measures_the_model_it_trained(monkeypatch):
    text = ShortText(TOKENS % VOCAB_SIZE, TOKENS % VOCAB_SIZE, "0", 5.0)
    monkeypatch.setattr(repeated_data, "code_text", lambda: text)
    monkeypatch.setattr(repeated_data, "LENGTH", 16)
    whole, short = (measure({"repeats": r, "seed": 0}, steps=3) for r in (10, LEFT_OUT))
    assert (whole["steps"], whole["tokens"]) == (3, 3 * 16 * 16)
    assert short["tokens"] == 2 * 16 * 16 and whole["held_out"] < whole["chance_loss"] + 0.5
