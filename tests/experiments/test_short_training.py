"""Short training runs: they repeat, stop when the loss is lost, and read what they are given."""

import math

import pytest
import torch

from llmlib.architecture import ModelConfig, Transformer
from llmlib.core import seed_everything
from llmlib.experiments.short_text import VOCAB_SIZE, short_text
from llmlib.experiments.short_training import (
    loss_on_text,
    mixed_rows,
    random_rows,
    train_briefly,
    warmup_decay,
    warmup_hold_decay,
)


def small_model(seed: int = 0) -> Transformer:
    seed_everything(seed)
    return Transformer(
        ModelConfig(vocab_size=VOCAB_SIZE, d_model=20, n_layers=1, n_heads=2, max_seq_len=16)
    )


def train(model: Transformer, seed: int, lr: float = 1e-2) -> list[float]:
    tokens = short_text().train
    return train_briefly(model, tokens, lr=lr, steps=7, batch=3, seed=seed, length=11)


def test_equal_seeds_give_equal_runs_and_others_do_not() -> None:
    first, again = train(small_model(), seed=5), train(small_model(), seed=5)
    assert first == again
    assert len(first) == 7
    assert train(small_model(), seed=6) != first


def test_a_run_stops_when_its_loss_is_not_finite() -> None:
    model = small_model()
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    assert len(train(model, seed=5)) == 1


def test_the_rate_may_depend_on_the_step() -> None:
    text, still = short_text(), small_model()
    before = [p.clone() for p in still.parameters()]
    seen: list[int] = []

    def never(step: int) -> float:
        seen.append(step)
        return 0.0

    train_briefly(still, text.train, lr=never, steps=3, batch=2, seed=0, length=11)
    assert seen == [0, 1, 2]
    assert all(torch.equal(a, b) for a, b in zip(before, still.parameters(), strict=True))


def test_the_held_out_loss_of_frequencies_is_the_unigram_loss() -> None:
    """A model that ignores its input and predicts by frequency pays what the text states."""
    text = short_text()
    counts = torch.bincount(text.train, minlength=VOCAB_SIZE) + 1.0
    model = Transformer(
        ModelConfig(
            vocab_size=VOCAB_SIZE, d_model=20, n_layers=1, n_heads=2, max_seq_len=64,
            norm="layer", norm_bias=True, tie_embeddings=False,
        )
    )  # fmt: skip
    with torch.no_grad():
        model.norm.get_parameter("weight").zero_()
        model.norm.get_parameter("bias").zero_()[0] = 1.0
        model.output_weight.zero_()[:, 0] = counts.log()
    rows = (len(text.held_out) - 1) // 64
    assert loss_on_text(model, text.held_out, rows=rows) == pytest.approx(
        text.unigram_loss, rel=0.01
    )
    assert 4 < text.unigram_loss < math.log(VOCAB_SIZE)
    assert text.held_out.max() < VOCAB_SIZE


def test_rows_of_a_mixture_come_from_its_sources_as_often_as_it_says() -> None:
    sources = [torch.arange(100, 131), torch.arange(200, 237), torch.arange(300, 323)]
    rows = mixed_rows(sources, [0.2, 0.7, 0.1], length=5, batch=1000, seed=3)(0)
    assert (rows.diff(dim=1) == 1).all()  # a stretch of one source
    assert rows.shape == (1000, 6)
    shares = torch.bincount(rows[:, 0] // 100, minlength=4)[1:] / 1000
    torch.testing.assert_close(shares, torch.tensor([0.2, 0.7, 0.1]), atol=0.05, rtol=0)
    starts = rows[rows[:, 0] >= 300][:, 0] - 300
    assert starts.min() == 0
    assert starts.max() == 23 - 6


def test_a_mixture_may_depend_on_the_step() -> None:
    sources = [torch.full((20,), 1), torch.full((20,), 2)]
    rows = mixed_rows(
        sources, lambda step: [1, 0] if step < 2 else [0, 1], length=3, batch=4, seed=0
    )
    assert [set(rows(step).flatten().tolist()) for step in range(4)] == [{1}, {1}, {2}, {2}]


def test_a_function_of_rows_trains_as_the_text_does() -> None:
    tokens = short_text().train
    rows = random_rows(tokens, length=11, batch=3, seed=5)
    assert train_briefly(small_model(), rows, lr=1e-2, steps=7) == train(small_model(), seed=5)


def test_the_rate_rises_and_falls_to_zero() -> None:
    lr = warmup_decay(0.3, 100)
    rates = [lr(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.06)
    assert max(rates) == rates[5] == pytest.approx(0.3)
    assert rates[100] == 0
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert warmup_decay(0.3, 1)(0) == pytest.approx(0.3)


def test_the_rate_may_stay_at_its_peak_for_a_while() -> None:
    rate = warmup_hold_decay(3e-3, 240, warmup=20, share=1 / 3)
    assert rate(0) == pytest.approx(3e-3 / 20)
    assert rate(0) < rate(10) < rate(19) == rate(100) == rate(160) == 3e-3
    assert 0 < rate(239) < rate(200) == pytest.approx(1.5e-3)
