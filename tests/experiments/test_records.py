"""What the committed records say: each is whole, and every claim of every experiment holds."""

from collections.abc import Iterator
from typing import Any

import pytest

from llmlib.experiments.catalogue import find_experiment, modules
from llmlib.experiments.lines import read_runs


def claims() -> Iterator[Any]:
    for name in modules():
        for row, group in find_experiment(name).claims.items():
            marks = [pytest.mark.covers(row)] if row else []
            for sentence in group:
                yield pytest.param(name, sentence, id=f"{name}: {sentence}", marks=marks)


@pytest.mark.parametrize(("name", "sentence"), list(claims()))
def test_claim(name: str, sentence: str) -> None:
    assert find_experiment(name).holds(sentence), f"{name}: the record does not say that {sentence}"


@pytest.mark.parametrize("name", list(modules()))
def test_the_record_is_whole_and_of_equal_runs(name: str) -> None:
    assert list(find_experiment(name).problems()) == []


@pytest.mark.parametrize("name", list(modules()))
def test_every_line_says_how_it_was_made(name: str) -> None:
    for run in read_runs(name):
        assert run["command"] == f"python -m llmlib.experiments {name}"
        assert run["machine"] and run["versions"]["torch"] and run["cpu_seconds"] > 0
        assert len(run["code"]) == 16


def test_seeds_are_three_at_least_where_a_claim_rests_on_them() -> None:
    for name in modules():
        assert len(find_experiment(name).seeds) >= 3, name
