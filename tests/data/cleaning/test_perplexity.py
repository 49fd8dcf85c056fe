"""An n-gram model tells prose from shuffled words, noise and echoes."""

import random
from functools import cache

import numpy as np
import pytest

from llmlib.data.cleaning import (
    PerplexityFilter,
    Pipeline,
    auc,
    mean_surprisal,
    reference_texts,
    train_perplexity_model,
)
from llmlib.data.corpora.document import Document
from llmlib.introduction import KneserNey

SEEDS = (0, 1, 2)


@cache
def model(seed: int) -> KneserNey:
    return train_perplexity_model(reference_texts("train", 3000, seed=seed))


def spoiled(texts: list[str], how: str, seed: int) -> list[str]:
    rng = random.Random(seed)
    if how == "noise":  # random letters in words of the same lengths
        letters = "abcdefghijklmnopqrstuvwxyz"
        return ["".join(c if c == " " else rng.choice(letters) for c in text) for text in texts]
    if how == "letters":  # the same letters in another order
        return ["".join(rng.sample(text, len(text))) for text in texts]
    return [" ".join(rng.sample(text.split(), len(text.split()))) for text in texts]


@pytest.mark.covers("data.filter-metric")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("how", "least"), [("words", 0.8), ("letters", 0.999), ("noise", 0.999)])
def test_prose_surprises_less_than_what_was_spoiled(how: str, least: float, seed: int) -> None:
    prose = reference_texts("held_out", 300, seed=seed)  # other modules and books
    bad = spoiled(prose, how, seed)
    good_bits, bad_bits = mean_surprisal(model(seed), prose), mean_surprisal(model(seed), bad)
    assert auc(bad_bits, good_bits).low > least  # a coin: 0.5
    # Baseline: the length of the words, which shuffling words leaves as it was.
    if how == "words":
        lengths = [np.array([len(t) / len(t.split()) for t in texts]) for texts in (bad, prose)]
        assert abs(auc(*lengths).value - 0.5) < 1e-9
        # Next to its own original a shuffled text is nearly always the more surprising one.
        assert np.mean(bad_bits > good_bits) > 0.99


def test_bits_are_the_models_probabilities() -> None:
    small = train_perplexity_model(["abab", "bé"], order=2)
    (bits,) = mean_surprisal(small, ["aé"])
    probability = 1.0
    data = list("aé".encode())
    for place, byte in enumerate(data):
        probability *= small.prob(data[:place])[byte]
    assert bits == pytest.approx(-np.log2(probability) / 3)
    together = mean_surprisal(small, ["aé", "", "b", ""])
    assert together[0] == bits
    assert np.isnan(together[[1, 3]]).all()
    assert together[2] == mean_surprisal(small, ["b"])[0]
    assert len(mean_surprisal(small, [])) == 0
    with pytest.raises(ValueError, match="needs text"):
        train_perplexity_model([])


def test_a_calibrated_filter_loses_what_was_asked() -> None:
    prose = reference_texts("held_out", 300)
    step = PerplexityFilter.calibrated(model(0), prose, lost=0.1)
    documents = [Document(text=text, source="x") for text in prose]
    pipeline = Pipeline([step])
    kept = list(pipeline.run(documents))
    assert len(kept) == pytest.approx(270, abs=2)
    assert set(pipeline.report().steps[1].dropped) == {"high perplexity", "low perplexity"}
    noise = [Document(text=text, source="x") for text in spoiled(prose, "noise", 0)]
    echo = Document(text="And the LORD said unto Moses, " * 9, source="x")
    assert {step.reason(document) for document in noise} == {"high perplexity"}
    assert step.reason(echo) == "low perplexity"
    assert PerplexityFilter(model=model(0), max_bits=8.0).reason(echo) is None
    long = Document(text=prose[0] + noise[0].text * 40, source="x")
    head = PerplexityFilter(model=model(0), max_bits=3.0, max_characters=len(prose[0]))
    assert head.reason(long) == head.reason(documents[0])
    assert PerplexityFilter(model=model(0), max_bits=3.0).reason(long) == "high perplexity"
    with pytest.raises(ValueError, match="give prose"):
        PerplexityFilter.calibrated(model(0), [])
