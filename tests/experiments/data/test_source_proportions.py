"""Proportions of sources: the fitted law, and what the committed runs say."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from llmlib.core.statistics import t_interval
from llmlib.experiments.data import source_proportions
from llmlib.experiments.data.source_proportions import (
    MIXTURES,
    SEEDS,
    DomainText,
    MixingLaw,
    fit_law,
    perform,
    plan,
)
from llmlib.experiments.records import read_runs

NAME = "source_proportions"
SHARES = np.array(MIXTURES) / 6


def test_the_mixtures_cover_the_simplex_evenly():
    np.testing.assert_allclose(SHARES.sum(axis=1), 1)
    assert len(set(MIXTURES)) == 10
    for order in ((1, 2, 0), (1, 0, 2)):
        assert {tuple(m[i] for i in order) for m in MIXTURES} == set(MIXTURES)


@settings(max_examples=25, deadline=None)
@given(
    floor=st.floats(0.5, 3),
    slopes=st.lists(st.floats(-2, 0.9), min_size=3, max_size=3),
)
def test_a_law_is_found_again_from_its_own_losses(floor, slopes):
    law = MixingLaw(floor, np.array(slopes))
    found = fit_law(SHARES, law(SHARES))
    np.testing.assert_allclose(found(SHARES), law(SHARES), atol=2e-3)
    between = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(found(between), law(between), atol=5e-3)


def test_too_few_mixtures_are_refused():
    with pytest.raises(ValueError, match="3 mixtures for 4 numbers"):
        fit_law(SHARES[:3], np.ones(3))


@pytest.mark.slow
def test_a_run_reads_its_share_of_each_domain_and_its_part_of_the_tokens(monkeypatch):
    ids = [torch.full((2003,), domain) for domain in range(3)]
    text = DomainText(ids, ids, [1.0, 1.0, 1.0], "0")
    monkeypatch.setattr(source_proportions, "domain_text", lambda: text)
    run = perform({"sixths": [6, 0, 0], "budget": 0.5, "seed": 0}, steps=20)
    assert run["steps"] == 10 and run["tokens"] == 10 * 16 * 128
    assert run["losses"][0] < min(run["losses"][1:]), "only the first domain was read"
    even = perform({"sixths": [0, 3, 3], "budget": 1.0, "seed": 0}, steps=20)
    assert even["losses"][0] > max(even["losses"][1:])


def losses(sixths: tuple[int, ...], budget: float = 1.0) -> np.ndarray:
    """Losses of a mixture, seeds by domains."""
    runs = sorted(read_runs(NAME), key=lambda run: run["seed"])
    return np.array([run["losses"] for run in runs
                     if (tuple(run["sixths"]), run["budget"]) == (sixths, budget)])  # fmt: skip


def test_the_record_holds_every_run_once_at_equal_tokens():
    runs = read_runs(NAME)
    found = [{key: run[key] for key in ("sixths", "budget", "seed")} for run in runs]
    assert sorted(found, key=str) == sorted(plan(), key=str)
    assert len(SEEDS) == 3
    assert len({run["text_sha256"] for run in runs}) == 1
    assert len({(run["tokens"], run["budget"]) for run in runs}) == 2
    for run in runs:
        assert run["tokens"] < min(run["text_tokens"]), "no domain is read twice"


@pytest.mark.covers("data.effect-mixture")
@pytest.mark.parametrize("domain", range(3))
def test_a_domains_own_share_lowers_its_loss_and_the_first_part_most(domain):
    none = [losses(m)[:, domain] for m in MIXTURES[3:6] if m[domain] == 0]
    half = np.mean([losses(m)[:, domain] for m in MIXTURES[3:6] if m[domain] == 3], axis=0)
    whole = losses(MIXTURES[domain])[:, domain]
    first, second = none[0] - half, half - whole
    assert t_interval(first.tolist())[1] > 0.1
    assert t_interval((first - second).tolist())[1] > 0


def harm(domain: int, other: int) -> tuple[float, float, float]:
    """What a diet of another domain adds to a domain's loss, beside the even mixture."""
    return t_interval((losses(MIXTURES[other])[:, domain] - losses((2, 2, 2))[:, domain]).tolist())


@pytest.mark.covers("data.effect-mixture")
@pytest.mark.parametrize(("domain", "other"), [(0, 2), (1, 0), (1, 2), (2, 0), (2, 1)])
def test_a_diet_of_another_domain_costs_more_than_the_even_mixture(domain, other):
    assert harm(domain, other)[1] > 0


@pytest.mark.covers("data.effect-mixture")
def test_a_diet_of_code_costs_documentation_little_and_no_certain_amount():
    mean, low, high = harm(0, 1)
    assert low < 0 < high and mean < 0.2


@pytest.mark.covers("data.effect-mixture")
def test_after_the_bible_alone_code_costs_more_than_a_table_of_frequencies():
    table = read_runs(NAME)[0]["unigram_losses"]
    bible = losses((0, 0, 6))
    for domain in (0, 1):
        assert t_interval((bible[:, domain] - table[domain]).tolist())[1] > 0
    assert bible[:, 2].max() < table[2] - 1


@pytest.mark.covers("data.effect-mixture")
def test_the_law_predicts_mixtures_that_it_has_not_seen_and_no_corners():
    measured = np.array([losses(m).mean(axis=0) for m in MIXTURES])
    errors = np.zeros((2, len(MIXTURES), 3))
    for out in range(len(MIXTURES)):
        others = np.arange(len(MIXTURES)) != out
        for i in range(3):
            law = fit_law(SHARES[others], measured[others, i])
            errors[0, out, i] = law(SHARES[out]) - measured[out, i]
            errors[1, out, i] = measured[others, i].mean() - measured[out, i]
    by_law, by_mean = np.sqrt((errors[:, 3:] ** 2).mean(axis=(1, 2)))
    assert by_law < 0.2
    assert by_law < 0.5 * by_mean
    assert np.abs(errors[0, 2]).max() > 1, "the Bible's corner lies outside what it was fitted to"


def test_here_the_other_half_of_the_tokens_helps_at_equal_tokens_of_the_own_domain():
    helped = []
    for domain in range(3):
        alone = losses(MIXTURES[domain], budget=0.5)[:, domain]
        for mixture in MIXTURES[3:6]:
            if mixture[domain]:
                helped.append(t_interval((alone - losses(mixture)[:, domain]).tolist()))
    assert len(helped) == 6 and all(low > 0.05 for _, low, _ in helped)
