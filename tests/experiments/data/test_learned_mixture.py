"""A learnt mixture: how it is measured."""

import math

import numpy as np
import pytest
import torch

from llmlib.data.corpora.stories.story_domains import story_domains
from llmlib.experiments.data import learned_mixture
from llmlib.experiments.data.learned_mixture import (
    LENGTH,
    WORLDS,
    Stories,
    excess_losses,
    learn_weights,
    measure,
    stories,
    token_losses,
    train_on,
)
from llmlib.experiments.short_training import small_decoder
from llmlib.training import language_modeling, next_token_loss


def test_held_out_stories_follow_one_of_their_world_and_are_counted_whole() -> None:
    told = stories(400, 20)
    assert [*WORLDS] == [*story_domains()]
    for world, rows, counted, least in zip(
        story_domains().values(), told.pairs, told.counted, told.least, strict=True
    ):
        assert rows.shape[1] == LENGTH + 1 and counted.shape == (len(rows), LENGTH)
        first = list(world.stories(20, seed=2))[1].text  # the second of the first pair
        targets = rows[0, 1:][counted[0]]
        assert targets[-1] == 0 and (targets[:-1] > 0).all()  # its words, then the end
        assert len(targets) == len(torch.unique_consecutive(counted[0].nonzero()))
        assert int(counted[0].nonzero()[0]) == int((rows[0, 1:] == 0).nonzero()[0]) + 1
        assert len(first.replace(".", " .").replace(",", " ,").replace(":", " :").split()) == (
            len(targets) - 1
        )
        assert 0 < least / int(counted.sum()) < math.log(told.vocab_size)


def test_the_excess_is_the_models_loss_less_the_grammars() -> None:
    told = stories(400, 20)
    model = small_decoder(told.vocab_size, 3, length=LENGTH, d_model=32, n_layers=1)
    excesses = excess_losses(model, told)
    for world in range(4):
        rows, counted = told.pairs[world], told.counted[world]
        losses = token_losses(model, rows)[counted]
        expected = (losses.sum().item() - told.least[world]) / int(counted.sum())
        assert excesses[world] == pytest.approx(expected, abs=1e-4)
    rows = told.pairs[0]
    loss = next_token_loss(model, language_modeling(rows))
    torch.testing.assert_close(token_losses(model, rows).mean(), loss)


def test_the_proxy_turns_to_the_domain_where_the_reference_is_ahead() -> None:
    """The reference knows one text by heart; the other is noise that nobody predicts."""
    generator = torch.Generator().manual_seed(5)
    pattern = torch.arange(13).repeat(40)
    noise = torch.randint(13, (520,), generator=generator)

    told = Stories([pattern, noise], [], [], [], vocab_size=13)
    reference = train_on([1.0, 0.0], 0, told, steps=24)
    learned = learn_weights(reference.eval(), [pattern, noise], 0, steps=2)
    assert learned.path.shape == (2, 2)
    np.testing.assert_allclose(learned.path.sum(axis=1), 1)
    assert learned.excess[0, 0] > learned.excess[0, 1]
    assert learned.path[0, 0] > 0.6


def test_a_run_of_ten_steps_holds_every_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    few = stories(400, 20)
    monkeypatch.setattr(learned_mixture, "stories", lambda: few)
    found = measure({"seed": 1}, steps=10)
    assert set(found["weights"]) == {"uniform", "proportional", "learned"}
    for weights in found["weights"].values():
        assert sum(weights) == pytest.approx(1, abs=1e-4)
    assert found["weights"]["proportional"] == pytest.approx([1 / 15, 2 / 15, 4 / 15, 8 / 15],
                                                             abs=1e-4)  # fmt: skip
    assert set(found["excess"]) == {"uniform", "proportional", "learned", "untrained"}
    assert found["tokens"] == 10 * 16 * 128 and len(found["path"]) == 1
