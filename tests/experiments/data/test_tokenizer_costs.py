"""Costs of a tokenizer: how they are measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data import ByteBPE
from llmlib.data.cleaning.classifiers.language import LANGUAGES
from llmlib.experiments.data.tokenizer_costs import (
    ALGORITHMS,
    CODE,
    COUNTS,
    costs,
    first_bytes,
    learn,
    material,
    premium,
    ratio,
)


@given(st.lists(st.text(max_size=7), max_size=5), st.integers(0, 43))
def test_first_bytes_are_a_beginning_as_long_as_characters_allow(texts: list[str], limit: int):
    taken, whole = "".join(first_bytes(texts, limit)), "".join(texts)
    assert whole.startswith(taken) or "" in texts
    size = len(taken.encode())
    assert size <= limit
    if "" not in texts and taken != whole:
        assert size + len(whole[len(taken)].encode()) > limit


def test_both_vocabularies_see_as_much_text_and_none_of_what_they_are_measured_on():
    parts = material(5)
    sizes = [sum(len(text.encode()) for text in texts) for texts in parts.train.values()]
    assert abs(sizes[0] - sizes[1]) < 100 and sizes[0] > 900_000
    assert set(parts.test) == {*LANGUAGES, CODE}
    assert len({len(parts.test[code]) for code in LANGUAGES}) == 1 and len(parts.test["zh"]) > 200
    tested = {text for code in LANGUAGES for text in parts.test[code]}
    for texts in parts.train.values():
        assert not tested & set(texts)
    assert material(5).test == parts.test != material(7).test


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_kind_is_learnt_with_the_size_asked_for(algorithm: str):
    texts = ["the bridge over the river", "the river under the bridge"] * 11
    size = {"byte BPE": 271, "Unigram": 271, "WordPiece": 23}[algorithm]
    assert learn(algorithm, texts, size).vocab_size == size
    with pytest.raises(ValueError, match="none of"):
        learn("Morse", texts, 271)


def test_counts_and_what_is_made_of_them():
    counts = costs(ByteBPE([]), {"en": ["a b"], "zh": ["湖"], CODE: ["x=1"]})
    assert counts == {"en": [3, 2, 3, 3, 0], "zh": [3, 1, 1, 3, 0], CODE: [3, 3, 3, 3, 0]}
    run = {"costs": counts}
    assert (ratio(run, "en", "words"), ratio(run, "zh", "characters")) == (1.5, 3.0)
    assert premium(run, "zh") == 1.0
    assert len(COUNTS) == 5
