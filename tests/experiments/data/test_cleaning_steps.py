"""What cleaning is worth: the texts are what they claim, and the committed runs say it."""

import pytest

from llmlib.core.statistics import t_interval
from llmlib.experiments.data.cleaning_steps import (
    SEEDS,
    STEPS_OF_CLEANING,
    cleaned_text,
    perform,
    plan,
)
from llmlib.experiments.records import read_runs

NAME = "cleaning_steps"


def bits(after: str) -> list[float]:
    runs = {(run["after"], run["seed"]): run["bits_per_byte"] for run in read_runs(NAME)}
    return [runs[after, seed] for seed in SEEDS]


def difference(after: str, before: str) -> tuple[float, float, float]:
    pairs = zip(bits(after), bits(before), strict=True)
    return t_interval([a - b for a, b in pairs])


@pytest.mark.slow
def test_every_step_takes_something_away() -> None:
    text = cleaned_text()
    sizes = [text.train_bytes[name] for name in STEPS_OF_CLEANING]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    measured = perform({"after": "gathered", "seed": 5}, steps=2)
    assert measured["bits_per_byte"] > 3
    assert measured["text_sha256"] == read_runs(NAME)[0]["text_sha256"]


def test_the_record_is_whole() -> None:
    runs = read_runs(NAME)
    assert [{key: run[key] for key in ("after", "seed")} for run in runs] == list(plan())
    assert all(1 < run["bits_per_byte"] < run["chance_bits_per_byte"] for run in runs)
    assert len({run["text_sha256"] for run in runs}) == 1


def test_no_effect_of_cleaning_shows_where_text_is_read_less_than_once() -> None:
    """The fixed corpus is documentation already: what goes is a tenth, and no harm by itself."""
    for after, before in (
        ("no near-duplicates", "gathered"),
        ("no leaks", "no near-duplicates"),
        ("no leaks", "gathered"),
    ):
        mean, low, high = difference(after, before)
        assert low < 0 < high
        assert abs(mean) < 0.01  # as the capstone's report says
    assert all(run["epochs"] < 1 for run in read_runs(NAME))
