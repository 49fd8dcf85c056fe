"""Decontamination finds planted leaks, says where, and leaves the rest alone."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data import Document, fixed_corpus
from llmlib.data.deduplication.contamination import decontamination as module
from llmlib.data.deduplication.contamination.decontamination import (
    EvaluationIndex,
    decontaminate,
    find_leaks,
)

ITEMS = [
    "A baker sells 14 loaves in the morning and twice as many in the afternoon. How many loaves "
    "does she sell in the whole day?",
    "Which of these planets has no moon: Venus, Mars, Jupiter, Saturn or Neptune, and why is that?",
    "Tom's bicycle is worth three times as much as Ada's skateboard; together they cost 96 crowns.",
    "In which year did the café at the harbour change its owner for the second time, and to whom?",
    "If every glorp is a trund and no trund can fly, can the smallest of the glorps fly at night?",
    "Name the river that parts the old town from the new.",  # 11 words: one n-gram
    "What colour is chalk?",  # too short to look for
]
CHECKED = range(6)


def corpus(*texts: str) -> list[Document]:
    return [Document(text=text, source=f"d{i}") for i, text in enumerate(texts)]


def fourteen_words(text: str) -> str:
    """A piece from the middle of the text, long enough to hold a 13-gram."""
    words = text.split()
    return " ".join(words[1:16]) if len(words) > 16 else text


PLANTS = {
    "verbatim": lambda text: text,
    "capitals": str.upper,
    "without punctuation": lambda text: re.sub(r"[.,:;?']", " ", text),
    "other punctuation": lambda text: text.replace(" ", " - ").replace("?", " ..."),
    "wrapped": lambda text: text.replace(" ", "\n    ", 7),
    "full width": lambda text: "".join(
        chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text
    ),
    "cut out of context": fourteen_words,
    "quoted in a list": lambda text: f"* one\n* {text}\n* two",
}


@pytest.mark.covers("data.decontaminate")
@pytest.mark.parametrize("seed", range(3))
def test_every_planted_leak_is_found_and_nothing_else(seed):
    rng = random.Random(seed)
    documents = [d for d in fixed_corpus() if len(d.text) > 300][:: 41 + seed]
    planted = {}
    for item in CHECKED:
        for change in PLANTS.values():
            place = rng.randrange(len(documents))
            while place in planted:
                place = rng.randrange(len(documents))
            planted[place] = item
            host = documents[place].text.split(" ")
            cut = rng.randrange(len(host))
            text = " ".join([*host[:cut], change(ITEMS[item]), *host[cut:]])
            documents[place] = Document(text=text, source=documents[place].source)
    assert len(planted) == 48 < len(documents)
    kept, dropped, leaks = decontaminate(documents, ITEMS)
    assert {leak.document: leak.item for leak in leaks} == planted
    assert len(leaks) == 48
    assert [d.document for d in dropped] == [documents[place] for place in sorted(planted)]
    assert kept == [d for place, d in enumerate(documents) if place not in planted]
    assert EvaluationIndex.build(ITEMS).unchecked == [6]


def words_by_expression(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


@pytest.mark.covers("data.decontaminate")
@given(
    st.lists(st.text("aAb ,.\n", max_size=31), max_size=7),
    st.lists(st.text("aAb ,.\n", max_size=17), max_size=5),
    st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
)
@settings(max_examples=100, deadline=None)
def test_leaks_equal_those_of_string_matching(texts, items, lengths):
    n_words, min_words = lengths
    expected = []
    for number, text in enumerate(texts):
        own = words_by_expression(text)
        for item, question in enumerate(items):
            words = words_by_expression(question)
            n = min(n_words, len(words))
            if n < min_words:
                continue
            wanted = {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}
            found = wanted & {tuple(own[k : k + n]) for k in range(len(own) - n + 1)}
            if found:
                expected.append((number, item, len(found), len(found) / len(wanted)))
    index = EvaluationIndex.build(items, n_words, min_words)
    leaks = find_leaks(iter(corpus(*texts)), index)
    assert [(k.document, k.item, k.ngrams, k.share) for k in leaks] == expected


def test_a_paraphrase_of_twelve_words_in_a_row_is_no_leak_of_thirteen():
    words = ITEMS[0].split()
    eleven = " ".join([*words[:12], "indeed", *words[13:24]])
    assert not list(find_leaks(corpus(eleven), EvaluationIndex.build(ITEMS)))
    assert list(find_leaks(corpus(eleven), EvaluationIndex.build(ITEMS, n_words=8)))


def test_words_do_not_run_over_the_end_of_a_document():
    words = ITEMS[0].split()
    halves = corpus(" ".join(words[:12]), " ".join(words[12:24]))
    assert not list(find_leaks(halves, EvaluationIndex.build(ITEMS)))


def test_blocks_do_not_change_the_report(monkeypatch):
    documents = corpus("", "x", ITEMS[2], "", ITEMS[5] + ITEMS[1], "y")
    index = EvaluationIndex.build(ITEMS)
    whole = list(find_leaks(documents, index))
    assert [(leak.document, leak.item) for leak in whole] == [(2, 2), (4, 1), (4, 5)]
    monkeypatch.setattr(module, "HASHED_CHARACTERS", 3)
    assert list(find_leaks(documents, index)) == whole


def test_a_text_that_everybody_quotes_drops_nothing_but_is_reported():
    documents = corpus(*(f"{number}: {ITEMS[4]}" for number in range(4)), ITEMS[0])
    kept, dropped, leaks = decontaminate(documents, ITEMS, max_documents=3)
    assert len(leaks) == 5
    assert kept == documents[:4]
    assert dropped[0].reason == "holds evaluation item 0"
    assert not decontaminate(documents, ITEMS, max_documents=4)[0]


def test_chinese_items_are_found_by_their_characters():
    question = "城门外的小河上有几座石桥和木桥？"
    documents = corpus("昨天考试问：城门外的小河上有几座石桥和木桥，我不会答。", "城门外没有桥。")
    leaks = list(find_leaks(documents, EvaluationIndex.build([question])))
    assert [(leak.document, leak.share) for leak in leaks] == [(0, 1.0)]


def test_bad_settings_and_empty_sets():
    with pytest.raises(ValueError, match="min_words=9"):
        EvaluationIndex.build([], n_words=8, min_words=9)
    documents = corpus("some text")
    assert decontaminate(documents, []) == (documents, [], [])
    assert decontaminate([], ITEMS) == ([], [], [])


@pytest.mark.parametrize(
    "question",
    [
        "小明有十二个苹果，给了小红三个，又买了五个，现在他有多少个苹果？",
        "太郎はりんごを十二個持っています。花子に三個あげると残りはいくつですか？",
        "ร้านขายผลไม้มีส้มสามสิบผลขายไปสิบสองผลเหลือกี่ผล",
        "एक किसान के पास बारह आम हैं और वह तीन आम अपने पड़ोसी को देता है अब कितने बचे",
    ],
    ids=["Chinese", "Japanese", "Thai", "Hindi"],
)
def test_leaks_are_found_in_every_script(question):
    middle = question[2:-2]
    texts = [f"quiz 1：{middle} ok", question[::-1], "别的文章说的是天气。"]
    documents = [Document(text=text, source="x") for text in texts]
    kept, dropped, leaks = decontaminate(documents, [question])
    assert [document.text for document in kept] == texts[1:]
    assert len(dropped) == 1 and leaks[0].share > 0.5


def test_marks_are_parts_of_words():
    # Five words of Hindi: their vowels, which are marks, part none of them.
    index = EvaluationIndex.build(["क्या यह किताब आपकी है", "क्या यह किताब"], 5, 5)
    assert index.sizes.tolist() == [1, 0] and index.unchecked == [1]
