"""Documents of several kinds: how often each is written, and when rows are the same."""

import pytest

from llmlib.experiments.worlds.instruction_world import START, instructions, story, words
from llmlib.experiments.worlds.mixed_documents import fresh_rows, mean_size


def test_shares_are_of_tokens():
    kinds = {"short": lambda rng: ["ann"], "long": lambda rng: ["bob"] * 9}
    assert mean_size(kinds["short"]) == 3
    assert mean_size(kinds["long"]) == 19
    shares = {"short": 0.5, "long": 0.5}
    rows = fresh_rows(kinds, shares, length=199, batch=50, seed=0)(0)
    assert rows.shape == (50, 200)
    ann, bob = ((rows == words()[name]).sum().item() for name in ("ann", "bob"))
    # a third of the short documents' tokens are names, nine nineteenths of the long ones'
    assert (3 * ann) / (3 * ann + 19 * bob / 9) == pytest.approx(0.5, abs=0.05)


def test_rows_are_new_at_each_step_and_the_same_for_a_seed():
    kinds, shares = {"i": instructions, "s": story}, {"i": 1.0, "s": 0.0}
    one, same, other = (
        fresh_rows(kinds, shares, length=31, batch=3, seed=seed) for seed in (7, 7, 8)
    )
    first = one(0)
    assert (first == same(0)).all()
    assert not (first == one(1)).all()
    assert not (first == other(0)).all()
    assert (first[:, 0] == words()[START]).all()
