"""Keyword filters on 200 labelled lines, near-misses among them."""

import csv

import pytest

from llmlib.core.resources import resource
from llmlib.data.cleaning import (
    KeywordFilter,
    WithoutKeywordLines,
    keyword_hits,
    precision_recall,
)
from llmlib.data.corpora.document import Document


def doc(text: str) -> Document:
    return Document(text=text, source="test")


def items() -> list[dict[str, str]]:
    with resource("cleaning/keywords.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_items_are_200_and_half_of_them_near_misses() -> None:
    rows = items()
    assert len({row["text"] for row in rows}) == len(rows) == 200
    assert all(row["label"] in (row["about"], "clean") for row in rows)
    assert sum(row["label"] == "clean" for row in rows) == 100


@pytest.mark.covers("data.filter-keyword")
@pytest.mark.parametrize(
    ("kind", "positives", "precision", "recall", "coin"),
    # What was measured; `coin` is the precision of flagging every line written about the kind.
    [
        ("html", 30, 30 / 31, 1.0, 30 / 65),
        ("boilerplate", 49, 48 / 50, 48 / 49, 49 / 91),
        ("offensive", 21, 19 / 24, 19 / 21, 21 / 44),
    ],
)
def test_precision_and_recall(
    kind: str, positives: int, precision: float, recall: float, coin: float
) -> None:
    rows = items()
    labels = [row["label"] == kind for row in rows]
    flags = [any(keyword_hits(row["text"], [kind])) for row in rows]
    score = precision_recall(labels, flags)
    assert sum(labels) == positives
    assert score.precision.value == pytest.approx(precision)
    assert score.recall.value == pytest.approx(recall)
    assert score.precision.low > coin  # far better than chance on the near-misses, not perfect


def test_a_word_list_cannot_tell_a_donkey_from_an_insult() -> None:
    rows = [row for row in items() if row["about"] == "offensive"]
    wrong = [row["text"] for row in rows if row["label"] == "clean" and hit(row["text"])]
    assert len(wrong) == 5
    assert any("ox" in text for text in wrong) and any("1869" in text for text in wrong)
    missed = [row["text"] for row in rows if row["label"] != "clean" and not hit(row["text"])]
    assert all("@" in text or "1" in text for text in missed)  # disguised spelling


def hit(text: str) -> bool:
    return any(keyword_hits(text, ["offensive"]))


def test_hits_say_where() -> None:
    text = "The caf&#233; <b>closed</b>."
    found = [text[hit.start : hit.end] for hit in keyword_hits(text)]
    assert found == ["&#233;", "<b>", "</b>"]


CLEAN = ["The bridge was built in 1890.", "It was paid for by the town.", "Boats pass below it."]


def test_a_document_is_dropped_for_its_share_of_lines() -> None:
    step = KeywordFilter()
    assert step.reason(doc("\n".join(CLEAN))) is None
    assert step.reason(doc("\n\n".join([*CLEAN, "  Skip to content"]))) is None  # one line of four
    assert step.reason(doc("\n".join([*CLEAN[:2], "Skip to content"]))) == "boilerplate"
    assert step.reason(doc("\n\n".join([*CLEAN[:2], "  Tweet"]))) == "boilerplate"
    assert step.reason(doc("\n".join([*CLEAN, "<p>", "</p>"]))) == "html"
    assert step.reason(doc("\n".join([*CLEAN, "You idiot."]))) == "offensive"
    assert step.reason(doc("\n".join([*CLEAN * 3, "You idiot."]))) is None  # one line of ten
    assert KeywordFilter(max_lines=(("html", 0.9),)).reason(doc("Tweet")) is None
    assert step.reason(doc("")) is None


@pytest.mark.parametrize("kind", ["html", "boilerplate", "offensive"])
def test_the_quick_look_misses_no_line(kind: str) -> None:
    step = KeywordFilter(max_lines=((kind, 0.0),))
    for row in items():
        for text in (row["text"], row["text"].upper(), f"{CLEAN[0]}\n {row['text']}"):
            expected = kind if any(keyword_hits(text, [kind])) else None
            assert step.reason(doc(text)) == expected


def test_lines_are_taken_out_one_by_one() -> None:
    web = "\n".join(["Home | Shop | Log in", *CLEAN, "  14 comments ", "You idiot.", ""])
    step = WithoutKeywordLines()
    assert step.apply(doc(web)).text == "\n".join([*CLEAN, "You idiot.", ""])
    same = doc("\n".join(CLEAN))
    assert step.apply(same) is same
