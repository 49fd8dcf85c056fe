"""n-gram models: hand-computed cases, sums to 1, documents kept apart, bad input."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.introduction import (
    AddK,
    JelinekMercer,
    KneserNey,
    MaximumLikelihood,
    NgramModel,
    absolute_discount,
    modified_discounts,
)

V = 5
corpora = st.lists(st.lists(st.integers(0, V - 1), max_size=13), min_size=1, max_size=7).filter(any)
contexts = st.lists(st.integers(0, V - 1), max_size=7)
MODELS: list[tuple[type[Any], dict[str, Any]]] = [
    (KneserNey, {}),
    (KneserNey, {"modified": True}),
    (KneserNey, {"discounts": "given"}),
    (AddK, {"k": 0.3}),
    (MaximumLikelihood, {}),
    (JelinekMercer, {"weights": "given"}),
]


def fit(kind: type[Any], documents: Any, order: int, options: dict[str, Any]) -> NgramModel:
    options = {
        name: [0.2, 0.4, 0.6, 0.8][:order] if value == "given" else value
        for name, value in options.items()
    }
    return kind.fit(documents, order=order, vocab_size=V, **options)


@pytest.mark.covers("intro.slm-ngram")
@pytest.mark.parametrize(("kind", "options"), MODELS)
@settings(max_examples=40, deadline=None)
@given(documents=corpora, context=contexts, order=st.integers(1, 4))
def test_probabilities_of_every_context_sum_to_one(
    kind: type[Any],
    options: dict[str, Any],
    documents: list[list[int]],
    context: list[int],
    order: int,
) -> None:
    model = fit(kind, documents, order, options)
    for length in range(len(context) + 1):
        distribution = model.prob(context[:length])
        assert distribution.shape == (V,)
        assert distribution.min() >= 0
        assert math.isclose(distribution.sum(), 1.0, abs_tol=1e-12)
        if kind is KneserNey or options.get("k"):
            assert distribution.min() > 0


@pytest.mark.parametrize(("kind", "options"), MODELS)
@settings(max_examples=40, deadline=None)
@given(train=corpora, test=corpora, order=st.integers(1, 4))
def test_scores_of_many_documents_are_the_probabilities_one_by_one(
    kind: type[Any],
    options: dict[str, Any],
    train: list[list[int]],
    test: list[list[int]],
    order: int,
) -> None:
    model = fit(kind, train, order, options)
    one_by_one = [model.prob(text[:i])[text[i]] for text in test for i in range(len(text))]
    np.testing.assert_allclose(np.exp(model.log_prob(test)), one_by_one, atol=1e-14)


@pytest.mark.covers("intro.slm-ngram")
def test_kneser_ney_bigram_computed_by_hand() -> None:
    # Bigrams of "0 1 0 1 2" behind a begin mark: (B,0) 1, (0,1) 2, (1,0) 1, (1,2) 1, so n1 = 3,
    # n2 = 1 and D_2 = 3/5. In front of 0 stand B and 1; in front of 1 only 0; in front of 2 only
    # 1: continuation counts 2, 1, 1, n1 = 2, n2 = 1 and D_1 = 2/4.
    model = KneserNey.fit([[0, 1, 0, 1, 2]], order=2, vocab_size=4)
    assert model.discounts == [(0.5,) * 3, (0.6,) * 3]
    floor = 0.5 * 3 / 4 / 4
    unigram = np.array([1.5 / 4, 0.5 / 4, 0.5 / 4, 0.0]) + floor
    after_1 = np.array([0.4 / 2, 0.0, 0.4 / 2, 0.0]) + 0.6 * 2 / 2 * unigram
    after_0 = np.array([0.0, 1.4 / 2, 0.0, 0.0]) + 0.6 * 1 / 2 * unigram
    begin = np.array([0.4, 0.0, 0.0, 0.0]) + 0.6 * unigram
    np.testing.assert_allclose(model.prob([0, 1]), after_1, atol=1e-15)
    np.testing.assert_allclose(model.prob([]), begin, atol=1e-15)
    np.testing.assert_allclose(model.prob([3]), unigram, atol=1e-15)
    perplexity = (begin[0] * after_0[1] * after_1[2]) ** (-1 / 3)
    assert math.isclose(model.perplexity([0, 1, 2]), perplexity, rel_tol=1e-12)


def test_a_token_that_follows_only_one_other_is_unlikely_elsewhere() -> None:
    # Token 1 is as frequent as token 0, but always stands behind 2.
    text = [2, 1, 0, 3, 2, 1, 4, 0, 2, 1, 3, 0, 2, 1, 0]
    model = KneserNey.fit([text], order=2, vocab_size=6)
    novel = model.prob([5])
    assert text.count(0) == text.count(1)
    assert novel[1] < novel[0] / 2


def test_estimated_discounts_by_hand() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [11, 5, 3, 2, 7])
    y = 11 / (11 + 10)
    assert absolute_discount(counts) == (y, y, y)
    expected = (1 - 2 * y * 5 / 11, 2 - 3 * y * 3 / 5, 3 - 4 * y * 2 / 3)
    assert modified_discounts(counts) == pytest.approx(expected, abs=1e-15)
    assert modified_discounts(np.array([1, 1, 2])) == (0.5, 1.0, 1.5)
    assert absolute_discount(np.array([2, 3])) == (0.5, 0.5, 0.5)


def test_modified_discounts_are_taken_by_count() -> None:
    # After 0: 1 once, 2 twice, 3 three times and 4 four times.
    documents = [
        [0, token] for token, times in ((1, 1), (2, 2), (3, 3), (4, 4)) for _ in range(times)
    ]
    model = KneserNey.fit(documents, order=2, vocab_size=5, modified=True)
    one, two, more = model.discounts[1]
    unigram = model.prob([1])  # nothing follows 1, so only order 1 speaks
    freed = (one + two + 2 * more) / 10
    expected = np.array([0, 1 - one, 2 - two, 3 - more, 4 - more]) / 10 + freed * unigram
    np.testing.assert_allclose(model.prob([0]), expected, atol=1e-15)


def test_maximum_likelihood_and_add_k_by_hand() -> None:
    text = [0, 1, 0, 2, 0, 1]
    assert MaximumLikelihood.fit([text], order=2, vocab_size=3).prob([0]).tolist() == pytest.approx(
        [0, 2 / 3, 1 / 3]
    )
    assert AddK.fit([text], order=2, vocab_size=3, k=0.5).prob([0]).tolist() == pytest.approx(
        [0.5 / 4.5, 2.5 / 4.5, 1.5 / 4.5]
    )
    assert MaximumLikelihood.fit([text], order=3, vocab_size=3).prob([2, 2]).tolist() == [1 / 3] * 3
    assert MaximumLikelihood.fit([text], order=2, vocab_size=3).log_prob([1])[0] == -math.inf


def test_jelinek_mercer_by_hand() -> None:
    model = JelinekMercer.fit([[0, 1, 0, 2]], order=2, vocab_size=3, weights=[0.7, 0.4])
    unigram = 0.7 * np.array([2, 1, 1]) / 4 + 0.3 / 3
    np.testing.assert_allclose(model.prob([0]), 0.4 * np.array([0, 0.5, 0.5]) + 0.6 * unigram)


def test_ngrams_do_not_cross_documents() -> None:
    half = [0.5, 0.5, 0.5]
    apart = KneserNey.fit([[0, 1], [2, 3]], order=3, vocab_size=V, discounts=half)
    together = KneserNey.fit([0, 1, 2, 3], order=3, vocab_size=V, discounts=half)
    assert apart.n_ngrams == [4, 4, 4]
    assert together.n_ngrams == [4, 4, 4]
    assert together.prob([0, 1])[2] > 0.3
    # Nothing ever followed (0, 1) nor 1 in a document of their own.
    np.testing.assert_array_equal(apart.prob([0, 1]), apart.prob([4, 4]))
    assert apart.prob([])[0] == apart.prob([])[2]


def test_a_flat_array_is_split_after_each_end_token() -> None:
    end = 4
    flat = np.array([0, 1, end, 2, 3, end, end, 1, 0], dtype=np.uint16)
    documents = [[0, 1, end], [2, 3, end], [end], [1, 0]]
    half = [0.5, 0.5, 0.5]
    by_mark = KneserNey.fit(flat, order=3, vocab_size=V, end_token=end, discounts=half)
    by_list = KneserNey.fit(documents, order=3, vocab_size=V, discounts=half)
    np.testing.assert_array_equal(by_mark.log_prob(flat), by_list.log_prob(documents))
    np.testing.assert_array_equal(by_mark.prob([0, 1, end]), by_list.prob([]))
    np.testing.assert_array_equal(by_mark.prob([2, end, 1]), by_list.prob([1]))
    assert (by_list.prob([1]) != by_list.prob([2, 1])).any()


def test_higher_orders_and_kneser_ney_help_on_a_markov_source() -> None:
    rng = np.random.default_rng(3)
    table = rng.dirichlet(np.full(31, 0.1), size=31)
    text = [0]
    for _ in range(12_000):
        text.append(int(rng.choice(31, p=table[text[-1]])))
    train, test = text[:11_000], text[11_000:]

    def nats(model: NgramModel) -> float:
        return -float(model.log_prob(test).mean())

    unigram = nats(KneserNey.fit(train, order=1, vocab_size=31))
    bigram = nats(KneserNey.fit(train, order=2, vocab_size=31))
    trigram = nats(KneserNey.fit(train, order=3, vocab_size=31))
    laplace = nats(AddK.fit(train, order=3, vocab_size=31))
    truth = -np.mean([np.log(table[a, b]) for a, b in zip(test[:-1], test[1:], strict=True)])
    assert truth < bigram < truth + 0.05
    assert bigram < trigram < laplace
    assert trigram < unigram - 0.5


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([], {}, "at least one document"),
        ([[], []], {}, "every document is empty"),
        ([0, V], {}, "must lie in 0..4, found 5"),
        ([[0, 1], [-1]], {}, "found -1"),
        (np.array([0.5]), {}, "must be integers"),
        ([0], {"order": 0}, "order must be at least 1"),
        ([0], {"vocab_size": 0}, "vocab_size must be at least 1"),
        ([0], {"end_token": V}, "end_token must lie in"),
        ([0], {"discounts": [0.5]}, "2 numbers from 0 to 1"),
        ([0], {"discounts": [0.5, 1.5]}, "2 numbers from 0 to 1"),
        ([0], {"discounts": [0.5, 0.5], "modified": True}, "leave out one of the two"),
    ],
)
def test_bad_input_is_named(tokens: Any, options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"order": 2, "vocab_size": V, **options}
    with pytest.raises(ValueError, match=message):
        KneserNey.fit(tokens, **arguments)


def test_bad_input_of_the_simple_models_is_named() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        AddK.fit([0], order=1, vocab_size=V, k=-0.1)
    with pytest.raises(ValueError, match="weights must be 2 numbers"):
        JelinekMercer.fit([0], order=2, vocab_size=V, weights=[0.5])
    with pytest.raises(ValueError, match="at least one token"):
        KneserNey.fit([0], order=1, vocab_size=V).perplexity([])
