"""Proportions of sources: the mixtures, what is read, and the fitted law."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from llmlib.experiments.data import source_proportions
from llmlib.experiments.data.source_proportions import (
    DOMAINS,
    MIXTURES,
    MixingLaw,
    fit_law,
    measure,
)
from llmlib.experiments.short_text import ShortText

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


def test_a_run_reads_its_share_of_each_domain_and_its_part_of_the_tokens(monkeypatch):
    ids = [torch.full((2003,), domain) for domain in range(3)]
    texts = {domain: ShortText(ids[k], ids[k], "0", 1.0) for k, domain in enumerate(DOMAINS)}
    monkeypatch.setattr(source_proportions, "domain_text", lambda: texts)
    monkeypatch.setattr(source_proportions, "LENGTH", 16)
    run = measure({"sixths": [6, 0, 0], "budget": 0.5, "seed": 0}, steps=20)
    assert run["steps"] == 10 and run["tokens"] == 10 * 16 * 16
    assert run["losses"][0] < min(run["losses"][1:]), "only the first domain was read"
    even = measure({"sixths": [0, 3, 3], "budget": 1.0, "seed": 0}, steps=20)
    assert even["losses"][0] > max(even["losses"][1:])
