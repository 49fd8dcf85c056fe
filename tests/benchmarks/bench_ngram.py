"""Kneser-Ney against nltk.lm, and at the capstone's size.

`python tests/benchmarks/bench_ngram.py` prints the figures and writes build/bench/ngram.json. nltk
looks up continuation counts by walking through all n-grams, so its part is small; ours is timed on
the same part and on 3 million tokens.
"""

import json
import time
from pathlib import Path

import numpy as np
from nltk.lm import KneserNeyInterpolated, Vocabulary
from nltk.util import everygrams, pad_sequence

from llmlib.core.files import atomic_write
from llmlib.core.hardware.machine import machine_class, versions
from llmlib.introduction import KneserNey

V, END = 4096, 0
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "ngram.json"


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


def at_the_capstones_size() -> dict[str, float]:
    """Time a 5-gram model of 3 million tokens, alone."""
    tokens = synthetic_tokens(3_200_000)
    begin = time.perf_counter()
    model = KneserNey.fit(tokens[:3_000_000], order=5, vocab_size=V, end_token=END)
    fitted = time.perf_counter()
    model.log_prob(tokens[3_000_000:])
    scored = time.perf_counter()
    return {
        "seconds to fit 3 M tokens, order 5": fitted - begin,
        "seconds to score 200,000 tokens": scored - fitted,
    }


def against_nltk() -> dict[str, float]:
    """Time both on the same tokens, after checking that they give the same probabilities."""
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
    return {
        "fitting 20,000 tokens, order 3: nltk's time / ours": their_fit / our_fit,
        "scoring 100 tokens: nltk's time / ours": their_score / our_score,
    }


def main() -> None:
    figures = {**at_the_capstones_size(), **against_nltk()}
    for name, value in figures.items():
        print(f"{name:52} {value:10.2f}")
    report = {"machine": machine_class(), "versions": versions("nltk"), "figures": figures}
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
