"""Repeated passages across documents and repeated phrases within sentences."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.core import resource
from llmlib.data import Document
from llmlib.data.deduplication.passages import (
    deduplicate_passages,
    drop_repetitive_sentences,
    line_spans,
    repetition,
    sentence_spans,
)


def corpus(*texts: str) -> list[Document]:
    return [Document(text=text, source=f"d{i}", meta={"n": i}) for i, text in enumerate(texts)]


def labelled(name: str) -> list[dict]:
    with resource(f"deduplication/{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.covers("data.dedup-sentence")
def test_precision_and_recall_of_passages_on_labelled_items():
    items = labelled("passages")
    assert len(items) == 100
    found = [bool(deduplicate_passages(corpus(item["a"], item["b"]))[2]) for item in items]
    assert found == [item["same"] for item in items]  # precision 1, recall 1
    # Two sentences in a row would take the near-misses that share two: precision 50 of 70.
    two = [bool(deduplicate_passages(corpus(i["a"], i["b"]), length=2)[2]) for i in items]
    assert sum(two) == 70
    kinds = {item["kind"] for item, gone in zip(items, two, strict=True) if gone > item["same"]}
    assert kinds == {"two taken", "interleaved"}


@pytest.mark.covers("data.dedup-sentence")
def test_precision_and_recall_of_repeated_phrases_on_labelled_items():
    items = labelled("sentences")
    assert len(items) == 100
    found = [bool(drop_repetitive_sentences(corpus(item["text"]))[2]) for item in items]
    hits = sum(f and item["repetitive"] for f, item in zip(found, items, strict=True))
    assert (hits, sum(found), sum(item["repetitive"] for item in items)) == (49, 51, 50)
    # A motto of one word and a laugh are taken for spam; a list of towns slips through.


def test_cuts_name_their_place_and_leave_the_rest_as_it_was():
    body = "One is here. Two is there. Three is gone."
    texts = (body, f"Start.\n\n{body.upper()}\n\nEnd.  Last.", f"First. {body}", body)
    documents = corpus(*texts)
    kept, dropped, cuts = deduplicate_passages(iter(documents))
    assert [d.text for d in kept] == [body, "Start.\n\nEnd.  Last.", "First."]
    assert kept[1].meta == {"n": 1}
    assert [(d.document, d.reason) for d in dropped] == [(documents[3], "repeated passage")]
    assert [cut.text for cut in cuts] == [body.upper(), body, body]
    assert all(cut.document.text[cut.start : cut.stop] == cut.text for cut in cuts)


def test_a_passage_repeated_within_its_document_goes_but_not_into_itself():
    refrain = "Sing it loud. Sing it low. Sing it slow."
    kept, _, cuts = deduplicate_passages(corpus(f"{refrain} Verse. {refrain}"))
    assert kept[0].text == f"{refrain} Verse."
    assert len(cuts) == 1
    # Five equal sentences hold one passage and a piece of its copy.
    kept, _, cuts = deduplicate_passages(corpus("La. La. La. La. La."))
    assert kept[0].text == "La. La. La. La. La."
    assert deduplicate_passages(corpus("La. La. La. La. La. La."))[0][0].text == "La. La. La."


def test_lines_are_a_unit_too():
    header = "# licence\n# text\n# ends\n"
    kept, _, cuts = deduplicate_passages(corpus(header + "x = 1\n", header + "y = 2\n"), "line")
    assert kept[1].text == "y = 2\n"
    assert cuts[0].text == header.strip()


def sentences(text: str) -> list[str]:
    return [text[start:stop] for start, stop in sentence_spans(text)]


def test_sentences_end_where_a_reader_says():
    assert sentences("It cost 3.50, i.e. too much. Why?! “Ask him.” Fine") == [
        "It cost 3.50, i.e. too much.", "Why?!", "“Ask him.”", "Fine"
    ]  # fmt: skip
    assert sentences("第一句。第二句！“第三句？”") == ["第一句。", "第二句！", "“第三句？”"]
    assert sentences("Title\n\nBody goes\non. Élan! über") == [
        "Title", "Body goes\non.", "Élan! über"
    ]  # fmt: skip


@given(st.text("aB. \n!。é", max_size=31))
@settings(max_examples=100, deadline=None)
def test_spans_hold_all_but_white_space(text):
    for spans in (sentence_spans(text), line_spans(text)):
        covered = "".join(text[start:stop] for start, stop in spans)
        assert "".join(covered.split()) == "".join(text.split())
        assert all(text[a:b] == text[a:b].strip() != "" for a, b in spans)


def repetition_by_hand(words: list[str]) -> float:
    """Count each phrase without overlap by str.count-like scanning."""
    best = 0
    phrases = {tuple(words[a:b]) for a in range(len(words)) for b in range(a + 1, a + 9)}
    for phrase in phrases:
        count = start = 0
        while start + len(phrase) <= len(words):
            hit = tuple(words[start : start + len(phrase)]) == phrase
            count += hit
            start += len(phrase) if hit else 1
        if count >= 3:
            best = max(best, count * len(phrase))
    return best / len(words) if words else 0.0


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=17))
@settings(max_examples=100, deadline=None)
def test_the_share_of_the_most_repeated_phrase(words):
    assert repetition(" ".join(words)) == repetition_by_hand(words)


def test_repetitive_sentences_go_and_their_neighbours_stay():
    spam = "Win a car, win a car, win a car! "
    documents = corpus(f"Hello there. {spam}Goodbye.", spam, "Nothing new.")
    kept, dropped, cuts = drop_repetitive_sentences(documents)
    assert [d.text for d in kept] == ["Hello there. Goodbye.", "Nothing new."]
    assert [(d.document, d.reason) for d in dropped] == [(documents[1], "repeated phrase")]
    assert [cut.text for cut in cuts] == [spam.strip()] * 2
    assert drop_repetitive_sentences(documents, 1.0)[0] == documents


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x85", "\u2028"])
def test_lines_and_blank_lines_of_every_system(end):
    header = end.join(("# licence", "# text", "# ends", ""))
    kept, _, cuts = deduplicate_passages(corpus(f"{header}x = 1", f"{header}y = 2"), "line")
    assert kept[1].text == "y = 2"
    assert cuts[0].text == header.strip()
    # One line end does not part sentences, two do, with blanks between them or not.
    text = f"Title{end}{end}Body goes{end}on{end} \t{end}end"
    assert sentences(text) == ["Title", f"Body goes{end}on", "end"]


@pytest.mark.parametrize(
    "text", ["打折打折打折打折打折打折今天。", "セールセールセールセール今日！", "ลดลดลดลดลดลดวันนี้"]
)
def test_repeated_phrases_in_scripts_without_spaces(text):
    kept, dropped, _ = drop_repetitive_sentences(corpus(text, "我们去公园看花。"))
    assert [d.text for d in kept] == ["我们去公园看花。"]
    assert dropped[0].reason == "repeated phrase"


def test_marks_belong_to_their_letters():
    # Vowels of Hindi are marks; each of the three words stands once.
    assert repetition("हिन्दी किताब दीजिए") == 0.0
    assert repetition("ดี ดี ดี มาก") == 0.5  # a letter with its vowel thrice, and three letters


@pytest.mark.parametrize("unit", [".", '."', "!?", " ", " \r\n", "\n", ". ", "A. ", "a ", "。"])
def test_time_grows_with_the_length_of_a_text(unit):
    # Eight times the length: eight times as long, sixty-four times if time were quadratic.
    def seconds(n: int) -> float:
        text = "Start " + unit * (n // len(unit)) + "x"
        started = time.process_time()
        for cut in (deduplicate_passages, drop_repetitive_sentences):
            cut(corpus(text, text))
        return time.process_time() - started

    seconds(100)
    assert seconds(64_000) < max(0.1, 24 * seconds(8_000))


def test_bad_settings_and_empty_texts():
    with pytest.raises(ValueError, match="at least one sentence, not 0"):
        deduplicate_passages([], length=0)
    with pytest.raises(ValueError, match=r"max_repetition=1\.5"):
        drop_repetitive_sentences([], 1.5)
    assert deduplicate_passages(corpus("", " ", ""))[0] == corpus("", " ", "")
    assert repetition("...") == 0.0
