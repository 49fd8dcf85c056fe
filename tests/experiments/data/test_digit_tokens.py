"""Sums in four kinds of tokens: what the models are shown."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.core.batch import IGNORE
from llmlib.experiments.data.digit_tokens import (
    BATCH,
    DIGITS,
    answer,
    draw,
    held_out,
    measure,
    question,
    sums,
    width,
    without_carrying,
)
from llmlib.experiments.worlds.digit_groups import GROUPS, WAYS, groups, learnt_numbers, spelling


@given(st.integers(0, 10**9), st.integers(2, 5))
def test_groups_join_to_the_number_and_begin_where_they_should(number: int, size: int):
    digits = str(number)
    for way in ("single", "left", "right"):
        assert "".join(groups(digits, way, size)) == digits
    left, right = (groups(digits, way, size) for way in ("left", "right"))
    assert all(len(group) == size for group in left[:-1] + right[1:])
    assert len(left) == len(right) == -(-len(digits) // size)
    with pytest.raises(ValueError, match="no rule"):
        groups(digits, "middle")


def text_of(ids: list[int], way: str) -> str:
    """Write tokens out again."""
    names = ["\n", "+", "=", *(learnt_numbers().tokens[1:] if way == "learnt" else GROUPS)]
    return "".join(names[i] for i in ids)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_writes_the_same_sums_and_fits_the_vocabulary(way: str):
    rng = random.Random(3)
    spell = spelling(way)
    for _ in range(300):
        pair = draw(rng, DIGITS, test=False)
        ids = question(pair, spell) + answer(pair, spell)
        assert text_of(ids, way) == f"{pair[0]}+{pair[1]}={sum(pair)}\n"
        assert max(ids) < len(GROUPS) + 3
        assert len(ids) <= width(way, DIGITS)


def test_learnt_numbers_are_cut_by_how_common_they_are():
    bpe = learnt_numbers()
    assert bpe.vocab_size == len(GROUPS) + 1
    spelt = {n: len(bpe.encode(str(n))) for n in range(100, 1000)}
    assert {1, 2} <= set(spelt.values())  # some are one token, their neighbors are not
    assert all(0 not in bpe.encode(str(n)) for n in range(0, 20_000, 7))  # the unknown token


def test_all_ways_see_the_same_sums_and_never_a_held_out_one():
    shown = {}
    for way in WAYS:
        batches = zip(range(3), sums(way, 7, batch=31), strict=False)
        rows = [row for _, batch in batches for row in batch["inputs"].tolist()]
        shown[way] = [text_of(row, way).rstrip("\n") for row in rows]
    assert shown["single"] == shown["left"] == shown["right"] == shown["learnt"]
    assert len(shown["left"]) == 93
    for text in shown["single"]:
        a, b = map(int, text.split("=")[0].split("+"))
        assert int(text.split("=")[1]) == a + b and not held_out((a, b))
    rng = random.Random(11)
    tested = [draw(rng, DIGITS, test=True) for _ in range(500)]
    assert all(map(held_out, tested))
    lengths = [len(str(a)) for a, _ in tested]
    assert all(0.25 < lengths.count(n) / 500 < 0.42 for n in range(1, DIGITS + 1))


@pytest.mark.parametrize("way", WAYS)
def test_the_targets_are_the_answer_and_its_end(way: str):
    batch = next(sums(way, 5, batch=29))
    for row, target in zip(batch["inputs"].tolist(), batch["targets"].tolist(), strict=True):
        wanted = [i for i in target if i != IGNORE]
        places = [place for place, i in enumerate(target) if i != IGNORE]
        assert row[places[0]] == 2 and wanted[-1] == 0  # from the equals sign to the end mark
        assert row[places[0] + 1 : places[-1] + 1] == wanted[:-1]


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_without_carrying_is_adding_column_by_column(a: int, b: int):
    columns = [(a // 10**k % 10 + b // 10**k % 10) % 10 * 10**k for k in range(5)]
    assert without_carrying((a, b)) == (sum(columns) == a + b)


def test_a_run_says_what_it_measured():
    run = measure({"way": "right", "seed": 13}, steps=2, n_tested=41)
    assert 0 <= run["accuracy"] <= 1 and len(run["by_digits"]) == DIGITS
    assert run["sums_seen"] == 2 * BATCH and run["tested"] == 41
    other = measure({"way": "single", "seed": 13}, steps=2, n_tested=1)
    assert run["parameters"] == other["parameters"]
