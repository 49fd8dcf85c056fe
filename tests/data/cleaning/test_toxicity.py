"""A lexicon with an aim, bare words and a classifier on 140 labelled sentences."""

import csv
import re

import numpy as np
import pytest

from llmlib.core.resources import resource
from llmlib.data.cleaning import ToxicityFilter, is_toxic, precision_recall
from llmlib.data.cleaning.classifiers.linear import LinearClassifier, LinearTraining
from llmlib.data.cleaning.classifiers.toxicity import AIMED, DISOWNED
from llmlib.data.corpora.document import Document

RECIPE = LinearTraining(orders=(2, 3, 4, 5), buckets=2**14, epochs=30, batch=16, learning_rate=0.02)
BARE = re.compile(
    r"\b(?:idiot|moron|loser|fool|scum|trash|garbage|pig|clown|coward|liar|stupid|dumb|useless|"
    r"kill|hurt|beat|punch|strangle|slap|burn|shoot|hate|die|hell)s?\b",
    re.IGNORECASE,
)


def items() -> tuple[list[str], list[bool]]:
    with resource("cleaning/toxicity.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] == "toxic" for row in rows]


@pytest.mark.covers("data.filter-toxicity")
def test_precision_and_recall_of_the_lexicon() -> None:
    texts, labels = items()
    assert (len(set(texts)), sum(labels)) == (140, 60)
    score = precision_recall(labels, [is_toxic(text) for text in texts])
    assert score.precision.value == pytest.approx(41 / 49)  # flagging all: 60 of 140
    assert score.recall.value == pytest.approx(41 / 60)
    bare = precision_recall(labels, [BARE.search(text) is not None for text in texts])
    # Asking for an aim doubles the precision of bare words, and the intervals do not touch.
    assert bare.precision.high < score.precision.low
    assert bare.precision.value < 0.6 * score.precision.value


@pytest.mark.slow
@pytest.mark.covers("data.filter-toxicity")
@pytest.mark.parametrize("seed", (0, 1, 2))
def test_a_hundred_sentences_are_too_few_for_a_classifier(seed: int) -> None:
    texts, labels = items()
    names = ["toxic" if label else "clean" for label in labels]
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    flags = [False] * len(texts)
    for fold in range(5):
        held_out = order[fold::5]
        train = [row for row in order if row not in held_out]
        model = LinearClassifier.train(
            [texts[row] for row in train], [names[row] for row in train], RECIPE
        )
        for row in held_out:
            flags[row] = model.predict([texts[row]]) == ["toxic"]
    learnt = precision_recall(labels, flags)
    written = precision_recall(labels, [is_toxic(text) for text in texts])
    assert learnt.precision.value > 60 / 140  # better than flagging at random
    assert learnt.precision.value < written.precision.low
    assert learnt.recall.value < written.recall.value


def test_the_quick_look_misses_no_sentence() -> None:
    for text in items()[0]:
        for form in (text, text.upper()):
            match = AIMED.search(form)
            disowned = match is not None and DISOWNED.search(form[: match.start()])
            assert is_toxic(form) == (match is not None and not disowned)


@pytest.mark.parametrize(
    ("clean", "toxic"),
    [
        ("Kill the process now.", "I will kill you now."),
        ("You are not stupid.", "You are so stupid."),
        ("Don't say you are an idiot.", "Oh, you are an idiot."),
        ("I despise cold soup.", "I despise those people."),
        ("You should burn the disc.", "You should burn them."),
    ],
)
def test_the_aim_decides(clean: str, toxic: str) -> None:
    assert not is_toxic(clean)
    assert is_toxic(toxic)


def test_a_document_is_judged_by_its_share_of_sentences() -> None:
    step = ToxicityFilter()
    calm = "The boat left at dawn. "
    assert step.reason(Document(text=calm * 19 + "You are an idiot.", source="x")) is None
    assert step.reason(Document(text="\n" + calm * 18 + "You are an idiot.", source="x")) == "toxic"
    lines = "\n".join(["A line of text"] * 21 + ["", "You are an idiot"])
    assert step.reason(Document(text=lines, source="x")) is None
    assert step.reason(Document(text="\n\n".join(["A line"] * 18) + "\nYou idiot", source="x"))
    assert step.reason(Document(text="", source="x")) is None
    assert ToxicityFilter(judge=lambda _: True).reason(Document(text="a", source="x")) == "toxic"
