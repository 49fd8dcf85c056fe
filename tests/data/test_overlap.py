"""Near-duplicates by shared word sequences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data import Document
from llmlib.data.deduplication.near.overlap import drop_overlapping


def corpus(*texts: str) -> list[Document]:
    return [Document(text=text, source="test") for text in texts]


ORIGINAL = "Return the shortest path between two nodes of a weighted graph, as a list of nodes."


def test_a_changed_copy_goes_and_a_new_text_stays():
    copy = ORIGINAL.replace("shortest", "longest")
    other = "Multiply two polynomials given by their coefficients in ascending order of degree."
    kept, dropped = drop_overlapping(corpus(ORIGINAL, copy, other), max_overlap=0.5)
    assert [d.text for d in kept] == [ORIGINAL, other]
    assert [(d.document.text, d.reason) for d in dropped] == [(copy, "near-duplicate")]


def test_overlap_is_counted_over_all_earlier_documents():
    first, second = "a b c d e f g h i", "p q r s t u v w x"
    patched = "a b c d e f g h p q r s t u v w"  # of its nine sequences, two were seen
    assert len(drop_overlapping(corpus(first, second, patched), 0.2)[0]) == 2
    assert len(drop_overlapping(corpus(first, second, patched), 0.25)[0]) == 3


def test_dropped_documents_count_as_seen():
    first = "a b c d e f g h i j k"
    copy = "a b c d e f g h i j x y"  # three of its five sequences were seen, two are new
    tail = "d e f g h i j x y"  # both of its sequences stood in the copy
    kept, dropped = drop_overlapping(corpus(first, copy, tail), 0.5)
    assert [d.text for d in kept] == [first]
    assert [d.document.text for d in dropped] == [copy, tail]


def test_short_texts_are_one_sequence():
    kept, dropped = drop_overlapping(corpus("Return x.", "Return y.", "Return  x."), 0.9)
    assert len(kept) == 2
    assert len(dropped) == 1


@given(st.lists(st.text("ab \n", max_size=40), max_size=12))
def test_nothing_is_lost(texts):
    documents = corpus(*texts)
    kept, dropped = drop_overlapping(documents, 0.5, n_words=2)
    assert len(kept) + len(dropped) == len(documents)
    assert drop_overlapping(documents, 1.0)[0] == documents


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match=r"max_overlap=1\.5"):
        drop_overlapping([], 1.5)
    with pytest.raises(ValueError, match="n_words=0"):
        drop_overlapping([], n_words=0)
