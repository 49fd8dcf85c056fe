"""Hashed words, n-grams and shingle sets against Python's own strings and sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data.corpora.document import text_blocks
from llmlib.data.corpora.units import hidden_spans, words_of
from llmlib.data.deduplication.near import shingles
from llmlib.data.deduplication.near.shingles import jaccard, shingle_sets
from llmlib.data.deduplication.window_hashes import (
    hashed_characters,
    hashed_words,
    mix,
    ngram_hashes,
    stretch_hashes,
)

TEXTS = st.lists(st.text("abé, \n\u3000_数ก\u0e34。ー\u0301\u200b\ufeff", max_size=17), max_size=7)


def ngrams(symbols: list[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n symbols; fewer symbols are one run, none are none."""
    starts = range(max(1, len(symbols) - n + 1)) if symbols else range(0)
    return [tuple(symbols[start : start + n]) for start in starts]


@given(TEXTS)
@settings(max_examples=50, deadline=None)
def test_words_are_those_of_the_text_with_their_places(texts):
    words = hashed_words(texts)
    hash_of: dict[str, int] = {}
    for number, text in enumerate(texts):
        own = slice(words.bounds[number], words.bounds[number + 1])
        begins, ends = words.begins[own].tolist(), words.ends[own].tolist()
        hidden = {place for span in hidden_spans(text) for place in range(*span)}
        pieces = [
            "".join(text[place] for place in range(a, b) if place not in hidden)
            for a, b in zip(begins, ends, strict=True)
        ]
        assert pieces == words_of(text)
        for word, value in zip(words_of(text), words.hashes[own].tolist(), strict=True):
            assert hash_of.setdefault(word, value) == value
    assert len(set(hash_of.values())) == len(hash_of)


def test_alphanumeric_words_leave_punctuation_out_and_part_ideographs():
    text = "Don't—stop! 数据2行 x_1"
    words = hashed_words(["", text], "alphanumeric")
    pieces = [text[a:b] for a, b in zip(words.begins, words.ends, strict=True)]
    assert pieces == ["Don", "t", "stop", "数", "据", "2", "行", "x", "1"]
    assert words.bounds.tolist() == [0, 0, 9]


@given(TEXTS, st.integers(1, 5), st.sampled_from(["word", "character"]))
@settings(max_examples=50, deadline=None)
def test_shingle_sets_and_their_similarity_equal_those_of_tuples(texts, n, unit):
    sets = shingle_sets(texts, n, unit)
    expected = [set(ngrams(words_of(t) if unit == "word" else list(t), n)) for t in texts]
    assert [len(sets[number]) for number in range(len(texts))] == list(map(len, expected))
    left, right = np.triu_indices(len(texts))
    for a, b, similarity in zip(left, right, jaccard(sets, left, right), strict=True):
        union = len(expected[a] | expected[b])
        assert similarity == (len(expected[a] & expected[b]) / union if union else 1.0)


@given(st.lists(st.text("ab", max_size=5).map(" ".join), max_size=7), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_ngrams_share_a_hash_exactly_when_they_are_equal(texts, n):
    hashes, first = ngram_hashes(hashed_words(texts), n)
    expected = [gram for text in texts for gram in ngrams(words_of(text), n)]
    assert len(first) == len(expected)
    same = hashes[:, None] == hashes[None]
    assert same.tolist() == [[a == b for b in expected] for a in expected]


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [" ".join(map(str, rng.integers(0, 5, rng.integers(0, 13)))) for _ in range(101)]
    whole = shingle_sets(texts, 3)
    monkeypatch.setattr(shingles, "HASHED_CHARACTERS", 31)
    blocks = [*text_blocks(texts, 31)]
    assert len(blocks) > 30
    assert [text for block in blocks for text in block] == texts
    parts = shingle_sets(iter(texts), 3)
    assert (parts.hashes == whole.hashes).all()
    assert (parts.bounds == whole.bounds).all()


def test_similarities_of_more_pairs_than_a_block_holds():
    sets = shingle_sets(["a b c", "b c d e", "f"], n=1)
    left, right = np.zeros(5003, int), np.ones(5003, int)
    assert (jaccard(sets, left, right) == 2 / 5).all()


def test_hashes_are_the_same_in_every_run():
    words = hashed_words(["naïve 数据"])
    assert words.hashes.tolist() == [639152920025852561, 2719252400751672633, 12851602918510255471]


def test_mixing_is_one_to_one_and_flips_half_of_the_bits():
    values = np.arange(1 << 16, dtype=np.uint64)
    assert len(np.unique(mix(values))) == len(values)
    flipped = np.bitwise_count(mix(values) ^ mix(values ^ np.uint64(1)))
    assert abs(flipped.mean() - 32) < 0.1  # standard error 0.016


def test_stretches_far_into_a_long_sequence():
    values = np.tile(mix(np.arange(7, dtype=np.uint64)), 10_007)
    begins = np.array([0, 7, 70_000, 70_001])
    a, b, c, d = stretch_hashes(values, begins, begins + 13)
    assert a == b == c != d


def test_empty_corpora_and_bad_lengths():
    assert len(shingle_sets([])) == 0
    assert len(hashed_characters([]).hashes) == 0
    assert len(shingle_sets(["", " \n"])) == 2
    with pytest.raises(ValueError, match="at least one word, not 0"):
        shingle_sets(["a"], n=0)


def test_lone_surrogates_are_characters_like_others():
    sets = shingle_sets(["\ud800 a", "\ud800 a", "\ud801 a"], n=1)
    assert (sets[0] == sets[1]).all()
    assert len(np.intersect1d(sets[0], sets[2])) == 1
