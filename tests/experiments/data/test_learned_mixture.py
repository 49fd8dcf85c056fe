"""A learnt mixture: how it is measured, and what the committed runs say."""

import math

import numpy as np
import pytest
import torch

from llmlib.core.statistics import t_interval
from llmlib.data.corpora.story_domains import story_domains
from llmlib.experiments.data.learned_mixture import (
    LENGTH,
    SEEDS,
    WORLDS,
    Stories,
    excess_losses,
    learn_weights,
    perform,
    plan,
    stories,
    token_losses,
    train_on,
)
from llmlib.experiments.records import read_runs
from llmlib.experiments.short_training import small_decoder
from llmlib.training import language_modeling, next_token_loss

NAME = "learned_mixture"


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


@pytest.mark.slow
def test_the_proxy_turns_to_the_domain_where_the_reference_is_ahead() -> None:
    """The reference knows one text by heart; the other is noise that nobody predicts."""
    generator = torch.Generator().manual_seed(5)
    pattern = torch.arange(13).repeat(40)
    noise = torch.randint(13, (520,), generator=generator)

    told = Stories([pattern, noise], [], [], [], vocab_size=13)
    reference = train_on([1.0, 0.0], 0, told, steps=60)
    learned = learn_weights(reference.eval(), [pattern, noise], 0, steps=12)
    assert learned.path.shape == (12, 2)
    np.testing.assert_allclose(learned.path.sum(axis=1), 1)
    assert learned.excess[0, 0] > learned.excess[0, 1]
    assert learned.path[0, 0] > 0.6


@pytest.mark.slow
def test_a_run_of_ten_steps_holds_every_mixture() -> None:
    found = perform({"seed": 1}, steps=10)
    assert set(found["weights"]) == {"uniform", "proportional", "learned"}
    for weights in found["weights"].values():
        assert sum(weights) == pytest.approx(1, abs=1e-4)
    assert found["weights"]["proportional"] == pytest.approx([1 / 15, 2 / 15, 4 / 15, 8 / 15],
                                                             abs=1e-4)  # fmt: skip
    assert set(found["excess"]) == {"uniform", "proportional", "learned", "untrained"}
    assert found["tokens"] == 10 * 16 * 128 and len(found["path"]) == 1


# The record


def lowered(other: str) -> tuple[float, float, float]:
    """What the learnt weights take off the worst world's excess: mean and 95% interval of seeds."""
    return t_interval([
        max(run["excess"][other]) - max(run["excess"]["learned"]) for run in read_runs(NAME)
    ])  # fmt: skip


def test_the_record_holds_every_seed_once() -> None:
    runs = read_runs(NAME)
    assert sorted(run["seed"] for run in runs) == [run["seed"] for run in plan()] == [*SEEDS]
    assert len({(run["steps"], run["tokens"]) for run in runs}) == 1
    for run in runs:
        assert run["domains"] == [*WORLDS]
        for excesses in run["excess"].values():
            assert min(excesses) > 0  # no model beats the grammar


@pytest.mark.covers("data.mixture")
@pytest.mark.parametrize(
    ("other", "least"), [("proportional", 0.4), ("uniform", 0.0)], ids=["by size", "uniform"]
)
def test_learned_weights_lower_the_worst_worlds_excess(other: str, least: float) -> None:
    assert lowered(other)[1] > least  # the lower end of the interval
    for run in read_runs(NAME):
        assert max(run["excess"]["learned"]) < max(run["excess"][other])
        assert max(run["excess"][other]) < 0.2 * min(run["excess"]["untrained"])


def test_the_worst_world_is_paid_for_by_the_easier_ones() -> None:
    """Most weight goes to the richest world; on the mean of all worlds no gain is certain."""
    runs = read_runs(NAME)
    for run in runs:
        assert run["weights"]["learned"][0] == max(run["weights"]["learned"])
    means = [np.mean(run["excess"]["uniform"]) - np.mean(run["excess"]["learned"]) for run in runs]
    _, low, high = t_interval([float(mean) for mean in means])
    assert low < 0 < high
