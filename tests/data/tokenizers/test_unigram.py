"""The unigram model: sums and maxima over all cuts are exact, and EM raises the likelihood."""

import math
import random
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data.tokenizers import Normalizer, Unigram, learn_pieces
from llmlib.data.tokenizers.unigram.lattice import Lattices, find_substrings
from llmlib.data.tokenizers.unigram.training import em_step

PROSE = [
    "The theorem holds for every graph; the graph's edges are the pairs it's given.",
    "\n    Examples\n    ========\n\n    >>> print(2 + 2)\n    4\n",
    "Señor Ångström mißt 深い湖 — naïve 🙂🙂 test, test, testing the tester's tests.",
] * 3
LEARNT = Unigram.train(PROSE, 353, ["<|end|>"], coverage=0.97)
LETTERS = [("a", -2.3), ("b", -1.7), ("ab", -2.9), ("ba", -3.1), ("aba", -4.7), ("bb", -3.0)]


def all_cuts(word: str, pieces: dict[str, float]) -> list[tuple[list[str], float]]:
    """Every way of cutting a word, by recursion."""
    if not word:
        return [([], 0.0)]
    return [
        ([word[:n], *rest], pieces[word[:n]] + score)
        for n in range(1, len(word) + 1)
        if word[:n] in pieces
        for rest, score in all_cuts(word[n:], pieces)
    ]


def spelt(unigram: Unigram, ids: list[int]) -> list[str]:
    return [unigram.tokens[i] for i in ids]


@settings(deadline=None)
@given(st.text(alphabet="ab", min_size=1, max_size=11))
def test_best_n_best_and_sum_against_all_cuts(word: str) -> None:
    unigram = Unigram(LETTERS)
    cuts = sorted(all_cuts(word, dict(LETTERS)), key=lambda cut: -cut[1])
    scores = [score for _, score in cuts]
    assert unigram.log_probability(word) == pytest.approx(math.log(sum(map(math.exp, scores))))
    best = unigram.n_best(word, 5)
    assert [score for _, score in best] == pytest.approx(scores[:5])
    assert len({tuple(ids) for ids, _ in best}) == len(best) == min(5, len(cuts))
    assert all((spelt(unigram, ids), pytest.approx(p)) in cuts for ids, p in best)
    assert sum(dict(LETTERS)[piece] for piece in spelt(unigram, unigram.encode(word))) == (
        pytest.approx(scores[0])
    )


@settings(deadline=None)
@given(
    st.dictionaries(st.text(alphabet="abc", min_size=1, max_size=7), st.integers(1, 5), min_size=1)
)
def test_expected_counts_and_best_cuts_against_all_cuts(words: dict[str, int]) -> None:
    texts, weights = list(words), list(words.values())
    found = find_substrings(texts, weights, max_length=4, min_count=1)
    counted = Counter[str]()
    for word, weight in words.items():
        for length in range(1, 5):
            for start in range(len(word) - length + 1):
                counted[word[start : start + length]] += weight
    assert dict(zip(found.texts, found.counts.tolist(), strict=True)) == counted
    scores = np.log(np.random.default_rng(5).dirichlet(np.ones(len(found.texts))))
    pieces = dict(zip(found.texts, scores.tolist(), strict=True))
    lattices = Lattices(texts, weights, found)
    counts, log_likelihood = lattices.expected_counts(scores)
    expected, total = defaultdict[str, float](float), 0.0
    for word, weight in words.items():
        cuts = all_cuts(word, pieces)
        mass = sum(math.exp(score) for _, score in cuts)
        total += weight * math.log(mass)
        for cut, score in cuts:
            for piece in cut:
                expected[piece] += weight * math.exp(score) / mass
    assert log_likelihood == pytest.approx(total)
    assert counts == pytest.approx([expected[text] for text in found.texts])
    of_word, used, best = lattices.best(scores)
    assert best == pytest.approx([max(s for _, s in all_cuts(w, pieces)) for w in texts])
    for number, word in enumerate(texts):
        parts = [found.texts[i] for i in used[of_word == number]]
        assert "".join(reversed(parts)) == word
        assert sum(pieces[part] for part in parts) == pytest.approx(best[number])


@pytest.mark.covers("data.tokenize-unigram")
def test_each_em_step_raises_the_likelihood() -> None:
    words = Counter(" ".join(PROSE).split())
    learnt = learn_pieces(words, 61, em_steps=5)
    assert len({step.n_pieces for step in learnt.history}) > 3
    gains = [
        after.log_likelihood - before.log_likelihood
        for before, after in pairwise(learnt.history)
        if before.n_pieces == after.n_pieces
    ]
    assert min(gains) >= -1e-9 and max(gains) > 1
    # From pieces that are equally likely, the first steps gain and do not merely not lose.
    texts, weights = list(words), list(words.values())
    lattices = Lattices(texts, weights, found := find_substrings(texts, weights, 7))
    scores = np.full(len(found.texts), -math.log(len(found.texts)))
    values = []
    for _ in range(5):
        scores, step = em_step(lattices, scores)
        values.append(step.log_likelihood)
    assert all(after > before + 1e-3 for before, after in pairwise(values))
    assert np.exp(scores).sum() == pytest.approx(1)


def test_pruning_keeps_what_is_used() -> None:
    words = {"the": 53, "then": 29, "hen": 31, "xyz": 1, "x": 2, "y": 2, "z": 2}
    learnt = dict(learn_pieces(words, 11, em_steps=3).pieces)
    assert {"the", "then", "hen"} <= set(learnt)
    assert set("thenxyz") <= set(learnt), "a character's piece went, so a text cannot be cut"
    assert sum(map(math.exp, learnt.values())) == pytest.approx(1)
    assert [*learnt.values()] == sorted(learnt.values(), reverse=True)


def test_coverage_leaves_rare_characters_to_the_bytes() -> None:
    words = {"aaaa": 199, "aéa": 1}
    all_characters = dict(learn_pieces(words, 4).pieces)
    most = dict(learn_pieces(words, 3, coverage=0.99).pieces)
    assert "é" in all_characters and not any("é" in piece for piece in most)


@pytest.mark.covers("data.tokenize-unigram")
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_sampling_draws_each_way_as_often_as_it_should(alpha: float) -> None:
    unigram, word, n = Unigram(LETTERS), "abab", 1009
    cuts = {tuple(cut): math.exp(alpha * p) for cut, p in all_cuts(word, dict(LETTERS))}
    rng = random.Random(11)
    drawn = Counter(tuple(spelt(unigram, unigram.sample(word, rng, alpha=alpha))) for _ in range(n))
    assert drawn.keys() == cuts.keys()
    for cut, chance in cuts.items():
        p = chance / sum(cuts.values())
        assert drawn[cut] / n == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))


def test_sampling_at_a_low_temperature_is_the_best_way() -> None:
    rng = random.Random(3)
    for text in PROSE:
        assert LEARNT.sample(text, rng, alpha=1000.0) == LEARNT.encode(text)
        assert LEARNT.decode(LEARNT.sample(text, rng, alpha=0.1)) == text
        assert LEARNT.n_best(text, 1)[0][0] == LEARNT.encode(text)


def test_a_piece_that_spells_like_a_byte_or_a_special_token_is_another_token() -> None:
    odd = Unigram([("<0x41>", -1.0), ("<s>", -1.0), *LETTERS], ["<s>"], cut="none")
    assert odd.encode("<s><0x41>") == [258, 257] and odd.decode([258, 257, 66]) == "<s><0x41>A"


def test_without_bytes_unknown_characters_are_unknown() -> None:
    unigram = Unigram(LETTERS, ["<unk>"], byte_fallback=False)
    assert spelt(unigram, unigram.encode("ac")) == ["a", "<unk>"]
    with pytest.raises(ValueError, match="'<unk>' must be a special token"):
        Unigram(LETTERS, byte_fallback=False)
    trained = Unigram.train(["abab abc"] * 2, 6, byte_fallback=False)
    assert trained.vocab_size == 6 and trained.tokens[0] == "<unk>"


def test_a_normalizer_is_applied_and_kept(tmp_path: Path) -> None:
    unigram = Unigram(LETTERS, normalizer=Normalizer(lowercase=True), cut="gpt2-digits")
    assert unigram.decode(unigram.encode("ABBA")) == "abba"
    unigram.save(tmp_path / "u.json")
    again = Unigram.load(tmp_path / "u.json")
    assert again.normalizer == unigram.normalizer and again.cut == "gpt2-digits"
    assert again.encode("AB 12") == unigram.encode("AB 12")


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="must be above 256"):
        Unigram.train(["abc"], 256)
    with pytest.raises(ValueError, match="3 characters do not fit into 2"):
        Unigram.train(["abc"], 258)
    with pytest.raises(ValueError, match="only 3 repeated substrings"):
        Unigram.train(["abc"], 263)
    with pytest.raises(ValueError, match="no words"):
        Unigram.train([], 263)
    with pytest.raises(ValueError, match="given twice"):
        Unigram([("a", -1.0), ("a", -2.0)])
    with pytest.raises(ValueError, match="without a score"):
        Unigram([("a", -math.inf)])
    for alpha in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="alpha="):
            LEARNT.sample("a", random.Random(0), alpha=alpha)
    with pytest.raises(ValueError, match="n=0"):
        LEARNT.n_best("a", 0)
    with pytest.raises(ValueError, match="coverage="):
        learn_pieces({"a": 1}, 1, coverage=0.0)
    with pytest.raises(ValueError, match="not among the pieces"):
        Lattices(["ab"], [1], find_substrings(["ab"], [1], 2), {"a": 0})
