"""Kneser-Ney against nltk.lm, and at the capstone's size.

Run with `pytest -s tests/benchmarks/bench_ngram.py`. nltk looks up continuation counts by walking
through all n-grams, so its part is small; ours is timed on the same part and on 3 million tokens.
"""

import time

import numpy as np
import pytest
from nltk.lm import KneserNeyInterpolated, Vocabulary
from nltk.util import everygrams, pad_sequence

from llmlib.introduction import KneserNey

V, END = 4096, 0


def synthetic_tokens(n: int) -> np.ndarray:
    """Phrases of Zipf's law between free tokens of Zipf's law, in documents of 150 on average."""
    rng = np.random.default_rng(0)
    phrases = [rng.zipf(1.3, rng.integers(3, 30)).clip(max=V - 1) for _ in range(60_000)]
    parts, size = [], 0
    while size < n:
        if rng.random() < 0.3:
            part = phrases[min(int(rng.zipf(1.2)), len(phrases) - 1)]
        else:
            part = rng.zipf(1.25, 12).clip(max=V - 1)
        parts.append(part)
        size += len(part)
    tokens = np.concatenate(parts)[:n]
    tokens[rng.random(n) < 1 / 150] = END
    return tokens


@pytest.mark.bench
def test_kneser_ney_at_the_capstones_size() -> None:
    tokens = synthetic_tokens(3_200_000)
    begin = time.perf_counter()
    model = KneserNey.fit(tokens[:3_000_000], order=5, vocab_size=V, end_token=END)
    fitted = time.perf_counter()
    model.log_prob(tokens[3_000_000:])
    scored = time.perf_counter()
    fit_s, score_s = fitted - begin, scored - fitted
    print(f"\n5-gram, 3 M tokens: fit {fit_s:.1f} s; 200 k tokens scored in {score_s:.2f} s")
    assert fit_s < 30
    assert score_s < 10


@pytest.mark.bench
def test_kneser_ney_against_nltk() -> None:
    order, n_train, n_test = 3, 20_000, 100
    tokens = synthetic_tokens(n_train + n_test).tolist()
    train, test = tokens[:n_train], tokens[n_train:]

    begin = time.perf_counter()
    ours = KneserNey.fit(train, order=order, vocab_size=V, discounts=[0, 0.75, 0.75])
    fitted = time.perf_counter()
    our_probability = np.exp(ours.log_prob(test))
    our_fit, our_score = fitted - begin, time.perf_counter() - fitted

    begin = time.perf_counter()
    words = list(pad_sequence(map(str, train), order, pad_left=True, left_pad_symbol="<s>"))
    vocabulary = Vocabulary([str(token) for token in range(V)], unk_cutoff=1)
    theirs = KneserNeyInterpolated(order=order, discount=0.75, vocabulary=vocabulary)
    theirs.counts.update([[g for g in everygrams(words, max_len=order) if g[-1] != "<s>"]])
    fitted = time.perf_counter()
    history = ["<s>"] * (order - 1) + [str(token) for token in test]
    their_probability = [
        theirs.unmasked_score(history[i], tuple(history[i - order + 1 : i]))
        for i in range(order - 1, len(history))
    ]
    their_fit, their_score = fitted - begin, time.perf_counter() - fitted

    np.testing.assert_allclose(our_probability, their_probability, rtol=1e-9)
    print(
        f"\n3-gram, {n_train} tokens: fit {their_fit / our_fit:.0f} times as fast as nltk.lm; "
        f"{n_test} tokens scored {their_score / our_score:.0f} times as fast"
    )
    assert our_fit < their_fit
    assert our_score < their_score
