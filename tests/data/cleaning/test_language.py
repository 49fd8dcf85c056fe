"""Hashed n-grams tell sixteen languages apart, on another program's messages and on prose."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.core.resources import resource
from llmlib.data.cleaning import (
    LANGUAGES,
    LanguageFilter,
    Pipeline,
    language_messages,
    language_model,
)
from llmlib.data.cleaning.classifiers.hashing import Bags, character_bags, word_bags
from llmlib.data.cleaning.classifiers.language import SPHINX, catalogue_messages
from llmlib.data.cleaning.classifiers.linear import LinearClassifier, LinearTraining
from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import words_of


def prose() -> list[tuple[str, str]]:
    with resource("cleaning/sentences.csv").open(encoding="utf-8", newline="") as file:
        return [(row["language"], row["text"]) for row in csv.DictReader(file)]


@pytest.mark.covers("data.filter-language")
def test_accuracy_on_another_programs_messages() -> None:
    messages = language_messages(SPHINX)  # of neither program that the model was trained on
    accuracy = {}
    for language, texts in messages.items():
        guesses = language_model().predict(texts)
        accuracy[language] = sum(guess == language for guess in guesses) / len(texts)
    large = [language for language, texts in messages.items() if len(texts) >= 50]
    assert len(large) >= 12 and "zh" in large
    assert min(accuracy[language] for language in large) > 0.85  # chance: one in sixteen
    assert accuracy["zh"] > 0.9
    assert np.mean([accuracy[language] for language in large]) > 0.94


@pytest.mark.covers("data.filter-language")
def test_accuracy_on_prose() -> None:
    rows = prose()
    assert Counter(language for language, _ in rows) == dict.fromkeys(LANGUAGES, 5)
    guesses = language_model().predict([text for _, text in rows])
    assert guesses == [language for language, _ in rows]


def test_train_and_held_out_messages_differ() -> None:
    from llmlib.data.cleaning.classifiers.language import DJANGO, WAGTAIL

    seen = {text for wheel in (DJANGO, WAGTAIL) for text in language_messages(wheel, ["zh"])["zh"]}
    held_out = language_messages(SPHINX, ["zh"])["zh"]
    assert sum(text in seen for text in held_out) < 0.01 * len(held_out)


def test_the_filter_names_the_language() -> None:
    german = "Die ganze Nacht hindurch fiel Schnee auf die Berge."
    step = LanguageFilter()
    pipeline = Pipeline([step])
    texts = [german, "Snow fell on the mountains all night.", "山上下了一整夜的雪。", "12 + 7 = 19"]
    kept = list(pipeline.run(Document(text=text, source="x") for text in texts))
    assert [document.text for document in kept] == texts[1:2]
    assert pipeline.report().reasons() == {
        "language: language de": 1,
        "language: language zh": 1,
        "language: language unclear": 1,
    }
    late = Document(text=german + " " + texts[1] * 99, source="x")
    assert LanguageFilter(max_characters=50).reason(late) == "language de"
    assert step.reason(late) is None
    assert LanguageFilter(min_probability=0.9999).reason(late) == "language unclear"
    assert LanguageFilter(keep=("de",), min_probability=0.0).reason(late) == "language en"


CATALOGUE = r"""
msgid ""
msgstr "Language: de\n"

#, python-format
msgid "Delete %(count)d file"
msgid_plural "Delete %(count)d files"
msgstr[0] "%(count)d Datei "
"löschen"
msgstr[1] "%(count)d Dateien <b>löschen</b>"

#, fuzzy
msgid "Open"
msgstr "Falsch"

#~ msgid "Old"
#~ msgstr "Alt"

msgid "Say \"{name}\"\nnow"
msgstr ""

msgid "Say \"yes\"\nnow"
msgstr "Sag \"ja\"\njetzt"
"""


def test_catalogues_are_read_without_markup() -> None:
    assert list(catalogue_messages(CATALOGUE)) == [
        ("Delete files", "Datei löschen"),
        ("Delete files", "Dateien löschen"),
        ('Say "yes" now', 'Sag "ja" jetzt'),
    ]


def cosine(bags: Bags, first: int, second: int) -> float:
    rows = [bags.select(np.array([text])) for text in (first, second)]
    one, other = (dict(zip(row.buckets.tolist(), row.values, strict=True)) for row in rows)
    return float(sum(value * other.get(bucket, 0.0) for bucket, value in one.items()))


def naive_cosine(first: Counter, second: Counter) -> float:
    def damped(counts: Counter) -> dict:
        norm = np.sqrt(sum(np.log1p(count) ** 2 for count in counts.values()))
        return {gram: np.log1p(count) / norm for gram, count in counts.items()}

    one, other = damped(first), damped(second)
    return sum(value * other.get(gram, 0) for gram, value in one.items())


def grams(units: str | list[str], orders: list[int]) -> Counter:
    return Counter((n, tuple(units[i : i + n])) for n in orders for i in range(len(units) - n + 1))


texts = st.text(alphabet="ab é山.1\n", max_size=23)


@given(texts, texts, texts)
def test_character_bags_agree_with_counters(first: str, second: str, third: str) -> None:
    bags = character_bags([first, second, third], orders=[1, 3], buckets=2**40)
    normal = [
        f" {' '.join(''.join(c if c.isalpha() else ' ' for c in text).split())} "
        for text in (first, third)
    ]
    expected = naive_cosine(*(grams(text, [1, 3]) for text in normal))
    assert cosine(bags, 0, 2) == pytest.approx(expected, abs=1e-5)


@given(texts, texts, texts)
def test_word_bags_agree_with_counters(first: str, second: str, third: str) -> None:
    bags = word_bags([first, second, third], orders=[1, 2], buckets=2**40)
    words = [["<", *words_of(text), ">"] for text in (first, third)]
    expected = naive_cosine(*(grams(one, [1, 2]) for one in words))
    assert cosine(bags, 0, 2) == pytest.approx(expected, abs=1e-5)


def test_bags_are_rows_of_a_matrix() -> None:
    bags = character_bags(["ab", "", "b c ab", "..."], orders=[3], buckets=64)
    weights = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    dense = np.zeros((4, 64), dtype=np.float32)
    rows = np.repeat(np.arange(4), np.diff(bags.offsets))
    dense[rows, bags.buckets] = bags.values
    np.testing.assert_allclose(bags.dot(weights), dense @ weights, atol=1e-6)
    assert not bags.dot(weights)[[1, 3]].any()
    chosen = np.array([2, 0, 2])
    np.testing.assert_allclose(bags.select(chosen).dot(weights), dense[chosen] @ weights, atol=1e-6)
    for buckets, orders in ((63, [1]), (64, [0]), (64, [])):
        with pytest.raises(ValueError, match="power of 2|at least 1"):
            character_bags(["a"], orders=orders, buckets=buckets)


def test_training_repeats_itself_and_is_saved_whole(tmp_path: Path) -> None:
    rows = [row for row in prose() if row[0] in ("pl", "sv", "tr")]
    labels, lines = [language for language, _ in rows], [text for _, text in rows]
    recipe = LinearTraining(orders=(1, 2), buckets=512, batch=4, epochs=10)
    model = LinearClassifier.train(lines, labels, recipe)
    again = LinearClassifier.train(lines, labels, recipe)
    np.testing.assert_array_equal(model.weights, again.weights)
    assert model.predict(lines) == labels
    model.save(tmp_path / "m.safetensors")
    loaded = LinearClassifier.load(tmp_path / "m.safetensors")
    assert (loaded.classes, loaded.recipe) == (model.classes, model.recipe)
    np.testing.assert_array_equal(loaded.log_probability(lines), model.log_probability(lines))
    total = np.exp(model.log_probability(lines)).sum(axis=1)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    np.testing.assert_allclose(
        model.probability(lines, "sv"), np.exp(model.log_probability(lines))[:, 1]
    )
    assert model.predict([]) == []
    for wrong in (["pl"], ["pl"] * len(lines)):
        with pytest.raises(ValueError, match="at least two classes"):
            LinearClassifier.train(lines, wrong, recipe)


def test_the_gradient_is_of_the_stated_loss() -> None:
    # Without features only the bias learns: it must tend to the logarithms of the shares.
    recipe = LinearTraining(orders=(3,), buckets=64, epochs=400, batch=8, learning_rate=0.1)
    model = LinearClassifier.train([""] * 8, list("aaaaaabb"), recipe)
    np.testing.assert_allclose(model.probability([""], "a"), [0.75], atol=0.01)
    assert not model.weights.any()
