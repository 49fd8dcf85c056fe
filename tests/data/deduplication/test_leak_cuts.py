"""Leaks are cut out of documents with a margin; what is left keeps its place and holds no leak."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data import Document
from llmlib.data.deduplication import EvaluationIndex, cut_leaks, find_leaks

QUESTION = "A baker sells 14 loaves in the morning and twice as many after noon: how many in all?"
NEIGHBOUR = "Which of these planets has no moon at all: Venus, Mars, Jupiter or Saturn, and why?"


def corpus(*texts: str) -> list[Document]:
    return [Document(text=t, source=f"d{i}", meta={"page": i}) for i, t in enumerate(texts)]


def prose(n: int, start: int = 0) -> str:
    return " ".join(f"word{k}" for k in range(start, start + n))


@pytest.mark.covers("data.decontaminate")
@given(
    st.lists(st.text("aAb ,.\n", max_size=41), max_size=5),
    st.lists(st.text("aAb ,.\n", max_size=13), max_size=3),
    st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.integers(0, 3),
    st.integers(0, 4),
)
@settings(max_examples=100, deadline=None)
def test_what_is_left_equals_marking_characters(texts, items, lengths, margin, min_piece):
    n_words, min_words = lengths
    wanted = set()
    for item in items:
        words = re.findall(r"[a-z0-9]+", item.lower())
        n = min(n_words, len(words))
        if n >= min_words:
            wanted |= {tuple(words[k : k + n]) for k in range(len(words) - n + 1)}
    expected, gone = [], []
    for text in texts:
        words = list(re.finditer(r"[a-z0-9]+", text.lower()))
        marks = bytearray(b"." * len(text))
        for n in range(1, n_words + 1):
            for k in range(len(words) - n + 1):
                if tuple(word[0] for word in words[k : k + n]) in wanted:
                    start = max(0, words[k].start() - margin)
                    stop = min(len(text), words[k + n - 1].end() + margin)
                    marks[start:stop] = b"x" * (stop - start)
        if b"x" not in marks:
            expected.append(text)
            continue
        pieces = [text[m.start() : m.end()].strip() for m in re.finditer(rb"\.+", marks)]
        pieces = [piece for piece in pieces if piece and len(piece) >= min_piece]
        expected += pieces
        if not pieces:
            gone.append(text)
    left, dropped, cuts = cut_leaks(
        corpus(*texts), items, n_words, min_words, margin=margin, min_piece=min_piece, max_pieces=99
    )
    assert [document.text for document in left] == expected
    assert [d.document.text for d in dropped] == gone
    if margin == 0:  # a margin may cut a word in two, and so make another word
        assert not list(find_leaks(left, EvaluationIndex.build(items, n_words, min_words)))
        assert all(len(cut.text) >= min_words for cut in cuts)


@pytest.mark.parametrize("change", [
    str,
    str.upper,
    lambda text: text.replace(" ", " \N{EM DASH}\n "),
    lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    lambda text: text.replace("a", "a\N{SOFT HYPHEN}"),
    lambda text: text.replace("m", "\N{MATHEMATICAL BOLD SMALL M}"),
])  # fmt: skip
@pytest.mark.parametrize(
    "before", ["Plain. ", "Ligatures: e\N{LATIN SMALL LIGATURE FFI}cient 10²½ ﷺ. "]
)
def test_the_cut_is_where_the_leak_stands_in_the_original_text(change, before):
    text = f"{before}[{change(QUESTION)}] after e\N{COMBINING ACUTE ACCENT}"
    left, dropped, cuts = cut_leaks(corpus(text), [QUESTION], margin=0, min_piece=1)
    assert not dropped
    assert [document.text for document in left] == [f"{before}[", change("?") + "] after e\u0301"]
    assert [cut.text for cut in cuts] == [change(QUESTION)[:-1]]
    assert left[1].meta == {"page": 0, "piece": 1}


def test_the_published_margin_and_shortest_piece():
    before, after = prose(60), prose(60, 60)
    text = f"{before} {QUESTION} {after}"
    left, _, cuts = cut_leaks(corpus(text, "untouched"), [QUESTION])
    assert [document.text for document in left] == [before[:-199], after[198:].strip(), "untouched"]
    assert cuts[0].start == len(before) + 1 - 200
    assert cuts[0].stop == len(before) + 1 + len(QUESTION) - 1 + 200
    left, _, _ = cut_leaks(corpus(f"{prose(60)} {QUESTION} {prose(3)}"), [QUESTION])
    assert len(left) == 1
    left, dropped, cuts = cut_leaks(corpus(f"{prose(5)} {QUESTION} {prose(3)}"), [QUESTION])
    assert not left
    assert not cuts
    assert dropped[0].reason == "holds evaluation item 0"


def test_leaks_near_each_other_are_one_cut():
    text = f"{prose(60)} {QUESTION} and {prose(20)} {NEIGHBOUR} {prose(60)}"
    left, _, cuts = cut_leaks(corpus(text), [QUESTION, NEIGHBOUR])
    assert len(left) == 2
    assert len(cuts) == 1
    assert cuts[0].reason == "holds evaluation item 0, 1"


@pytest.mark.parametrize(("leaks", "kept"), [(9, 10), (10, 0)])
def test_a_document_of_more_than_ten_pieces_goes_whole(leaks, kept):
    text = prose(90) + "".join(f" {QUESTION} {prose(90)}" for _ in range(leaks))
    left, dropped, cuts = cut_leaks(corpus(text), [QUESTION])
    assert (len(left), len(cuts), len(dropped)) == (kept, leaks if kept else 0, 0 if kept else 1)
    if dropped:
        assert dropped[0].reason == "holds evaluation item 0 in more than 10 pieces"


def test_a_text_that_everybody_quotes_is_not_cut():
    documents = corpus(*(f"{prose(90)} {number} {QUESTION}" for number in range(4)))
    left, dropped, cuts = cut_leaks(documents, [QUESTION], max_documents=3)
    assert (left, dropped, cuts) == (documents, [], [])
    assert len(cut_leaks(documents, [QUESTION], max_documents=4)[2]) == 4


def test_only_the_items_that_count_are_cut():
    both = f"{prose(90)} {QUESTION} {prose(90)} {NEIGHBOUR} {prose(90)}"
    documents = corpus(both, NEIGHBOUR, f"{NEIGHBOUR} indeed")
    left, _, cuts = cut_leaks(documents, [QUESTION, NEIGHBOUR], max_documents=2)
    assert len(left) == 4
    assert len(cuts) == 1
    assert NEIGHBOUR in left[1].text


def test_a_leak_that_cannot_be_located_costs_its_document():
    hidden = QUESTION.replace("all", "e\N{ZERO WIDTH SPACE}\N{COMBINING ACUTE ACCENT}")
    plain = QUESTION.replace("all", "é")
    documents = corpus(f"{prose(90)} {hidden} {prose(90)}")
    n_words = len(plain.split())
    assert list(find_leaks(documents, EvaluationIndex.build([plain], n_words)))
    left, dropped, _ = cut_leaks(documents, [plain], n_words)
    assert not left
    assert len(dropped) == 1


def test_a_negative_margin_is_refused():
    with pytest.raises(ValueError, match="margin=-1"):
        cut_leaks([], [], margin=-1)
