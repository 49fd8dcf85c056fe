"""n-gram models against nltk.lm on the same counts."""

from typing import Any

import numpy as np
import pytest
from nltk.lm import MLE, KneserNeyInterpolated, Lidstone, Vocabulary
from nltk.util import everygrams, pad_sequence

from llmlib.introduction import AddK, KneserNey, MaximumLikelihood

V = 7


def corpus(n_documents: int, seed: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.zipf(1.5, rng.integers(1, 17)).clip(max=V - 1).tolist() for _ in range(n_documents)]


def nltk_model(kind: Any, documents: list[list[int]], order: int, **options: Any) -> Any:
    """Fit a model of nltk on the n-grams that end in a token.

    Its own padding pipeline also counts n-grams that end in a begin mark and so gives begin marks
    probability; here they are left out, as a begin mark is never predicted.
    """
    # A cutoff of 1 keeps every token; the unknown word takes the place of one id.
    vocabulary = Vocabulary(
        [str(token) for token in range(V - 1)], unk_cutoff=1, unk_label=str(V - 1)
    )
    model = kind(order=order, vocabulary=vocabulary, **options)
    grams = []
    for document in documents:
        symbols = pad_sequence(map(str, document), order, pad_left=True, left_pad_symbol="<s>")
        grams.append([g for g in everygrams(list(symbols), max_len=order) if g[-1] != "<s>"])
    model.counts.update(grams)
    assert len(vocabulary) == V
    return model


def nltk_score(model: Any, documents: list[list[int]], order: int) -> np.ndarray:
    scores = []
    for document in documents:
        padded = ["<s>"] * (order - 1) + [str(token) for token in document]
        for i in range(order - 1, len(padded)):
            # unmasked: the begin mark is no word of the vocabulary and must not become <UNK>
            scores.append(model.unmasked_score(padded[i], tuple(padded[i - order + 1 : i])))
    return np.array(scores)


@pytest.mark.covers("intro.slm-ngram")
@pytest.mark.parametrize("order", [2, 3, 4])
def test_kneser_ney_equals_nltk(order: int) -> None:
    """nltk subtracts one fixed discount from orders 2 and up and none from order 1.

    It has no estimate of the discount and no uniform floor under the unigrams, so a discount of 0
    for order 1 gives its definition; the estimated discounts are checked by hand elsewhere.
    """
    train, test = corpus(41, seed=1), corpus(17, seed=2)
    theirs = nltk_model(KneserNeyInterpolated, train, order, discount=0.6)
    ours = KneserNey.fit(train, order=order, vocab_size=V, discounts=[0.0] + [0.6] * (order - 1))
    expected = nltk_score(theirs, test, order)
    np.testing.assert_allclose(np.exp(ours.log_prob(test)), expected, rtol=1e-12)
    assert ours.perplexity(test) == pytest.approx(np.exp(-np.log(expected).mean()), rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_add_k_equals_nltk(order: int) -> None:
    train, test = corpus(41, seed=3), corpus(17, seed=4)
    theirs = nltk_model(Lidstone, train, order, gamma=0.2)
    ours = AddK.fit(train, order=order, vocab_size=V, k=0.2)
    np.testing.assert_allclose(
        np.exp(ours.log_prob(test)), nltk_score(theirs, test, order), rtol=1e-12
    )


def test_maximum_likelihood_equals_nltk_on_contexts_it_has_seen() -> None:
    train = corpus(41, seed=5)
    theirs = nltk_model(MLE, train, 3)
    ours = MaximumLikelihood.fit(train, order=3, vocab_size=V)
    np.testing.assert_allclose(
        np.exp(ours.log_prob(train)), nltk_score(theirs, train, 3), rtol=1e-12
    )
