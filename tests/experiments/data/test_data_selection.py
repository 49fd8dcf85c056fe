"""Text selected for a target: how it is measured."""

import numpy as np
import pytest
import torch

from llmlib.data.mixing import influence
from llmlib.experiments.data import data_selection
from llmlib.experiments.data.data_selection import (
    CHOSEN,
    KINDS,
    LENGTH,
    TARGET,
    WAYS,
    Candidates,
    choose,
    cost_of_choosing,
    influence_of,
    row_losses,
    train_on_rows,
)
from llmlib.experiments.short_text import VOCAB_SIZE
from llmlib.experiments.short_training import small_decoder
from llmlib.training import language_modeling, next_token_loss


@pytest.fixture
def model():
    return small_decoder(VOCAB_SIZE, 3, length=LENGTH, d_model=32, n_layers=1).eval()


def test_influence_is_the_product_of_gradients_over_a_whole_decoder(model):
    rows, target = torch.randint(VOCAB_SIZE, (5, 13)), torch.randint(VOCAB_SIZE, (3, 13))
    parameters = [*model.parameters()]
    direction = torch.autograd.grad(next_token_loss(model, language_modeling(target)), parameters)
    expected = [
        sum(
            (g * v).sum().item()
            for g, v in zip(torch.autograd.grad(loss, parameters), direction, strict=True)
        )
        for row in rows
        for loss in [row_losses(model, row[None]).mean()]
    ]
    scores = influence_of(model, rows, target)
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-3, atol=1e-4)
    finer = influence(lambda: row_losses(model, rows), parameters, direction, step=3e-4)
    torch.testing.assert_close(finer, torch.tensor(expected), rtol=1e-3, atol=3e-4)


def test_rows_are_read_epoch_after_epoch(monkeypatch):
    seen = []
    monkeypatch.setattr(
        data_selection,
        "train_briefly",
        lambda _model, batches, **_settings: seen.extend(batch["inputs"] for batch in batches),
    )
    train_on_rows(torch.arange(48).repeat(2, 1).T, 0, steps=6)  # three steps an epoch
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert sorted(first.flatten().tolist()) == sorted(second.flatten().tolist()) == [*range(48)]
    assert not torch.equal(first, second)


def made_up(n: int) -> Candidates:
    """Rows of which the target's kind has words of its own."""
    kind = torch.arange(4).repeat(n)
    target = [*KINDS].index(TARGET)
    texts = [8 * ("nodes and edges " if k == target else "so it came to pass ") for k in kind]
    rows = torch.randint(VOCAB_SIZE, (4 * n, LENGTH + 1))
    return Candidates(rows, texts, kind, rows[:3], ["the edges of graphs and nodes"], rows[:3],
                      1.0, "")  # fmt: skip


def test_what_each_way_chooses():
    data = made_up(CHOSEN)
    target = [*KINDS].index(TARGET)
    anyhow, by_words = choose("random", 0, data), choose("DSIR", 0, data)
    assert len(anyhow) == len(by_words) == CHOSEN
    assert len(set(anyhow.tolist())) == CHOSEN and not torch.equal(
        anyhow, choose("random", 1, data)
    )
    assert (data.kind[anyhow] == target).float().mean() == pytest.approx(0.25, abs=0.06)
    assert (data.kind[by_words] == target).float().mean() > 0.9
    assert (data.kind[choose("all of the kind", 0, data)] == target).all()


def test_influence_takes_the_rows_that_help_most(monkeypatch):
    data = made_up(CHOSEN)
    scores = torch.randperm(len(data.rows)).float()
    monkeypatch.setattr(data_selection, "train_on_rows", lambda _rows, _seed, steps: steps)
    monkeypatch.setattr(data_selection, "influence_of", lambda _model, _rows, _target: scores)
    assert scores[choose("influence", 0, data)].min() == len(data.rows) - CHOSEN


def runs_of_tokens(rows: torch.Tensor, n: int) -> np.ndarray:
    """A hash of each n tokens in a row, by row."""
    windows = np.lib.stride_tricks.sliding_window_view(rows.numpy().astype(np.uint64), n, axis=1)
    factors = np.random.default_rng(0).integers(1 << 62, size=n, dtype=np.uint64) | np.uint64(1)
    return windows @ factors


def test_the_code_to_choose_from_does_not_hold_held_out_docstrings():
    data = data_selection.candidates()
    code = data.rows[data.kind == [*KINDS].index("code")]
    for hidden in (data.target, data.held_out):
        known = np.isin(runs_of_tokens(hidden, 24), runs_of_tokens(code, 24)).any(axis=1)
        # Phrases that stand in every docstring; with the held-out modules' code it is a fifth.
        assert known.mean() < 0.13


def test_what_choosing_costs():
    flops = {way: cost_of_choosing(way) for way in WAYS}
    assert len({training for _, training in flops.values()}) == 1
    assert flops["random"][0] == flops["all of the kind"][0] == 0
    assert 0 < flops["DSIR"][0] < 0.001 * flops["influence"][0]
    # Two forward passes over 12,000 rows and three over 1,008, against three over 4,800.
    choosing, training = flops["influence"]
    assert choosing / training == pytest.approx((2 * 12_000 + 3 * (960 + 48)) / (3 * 4800))
