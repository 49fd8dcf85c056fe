"""Repeated substrings against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data import Document
from llmlib.data.deduplication.substrings import remove_repeated_substrings, repeated_symbols

REPETITIVE = st.one_of(
    st.binary(max_size=61),
    st.lists(st.sampled_from([b"ab", b"a", b"abab", b"\xff", b"xyz" * 5]), max_size=17).map(
        b"".join
    ),
)


def marked_by_brute_force(data: bytes, bounds: list[int], length: int) -> list[bool]:
    """Every symbol of every window that equals a window which ended before it begins."""
    marks = [False] * len(data)
    windows = [
        start
        for low, high in zip(bounds, bounds[1:], strict=False)
        for start in range(low, high - length + 1)
    ]
    for later in windows:
        for earlier in windows:
            same = data[earlier : earlier + length] == data[later : later + length]
            if earlier + length <= later and same:
                marks[later : later + length] = [True] * length
    return marks


@pytest.mark.covers("data.dedup-substring")
@given(st.lists(REPETITIVE, max_size=5), st.integers(1, 23))
@settings(max_examples=200, deadline=None)
def test_repeated_stretches_equal_brute_force(documents, length):
    data = b"".join(documents)
    bounds = np.cumsum([0, *map(len, documents)]).tolist()
    marks = repeated_symbols(data, bounds, length)
    assert marks.tolist() == marked_by_brute_force(data, bounds, length)
    ids = np.frombuffer(data, np.uint8).astype(np.int64) * 1000
    assert repeated_symbols(ids, bounds, length).tolist() == marks.tolist()


def corpus(*texts: str) -> list[Document]:
    return [Document(text=text, source=f"d{i}", meta={"number": i}) for i, text in enumerate(texts)]


@pytest.mark.covers("data.dedup-substring")
def test_a_header_in_several_documents_stays_in_the_first():
    header = "Licensed under terms that nobody reads. "
    documents = corpus(header + "Alpha.", "Beta. " + header + "Gamma.", header, "Delta.")
    kept, dropped = remove_repeated_substrings(documents, min_bytes=30)
    assert [d.text for d in kept] == [documents[0].text, "Beta. Gamma.", "Delta."]
    assert kept[1].meta == {"number": 1, "repeated_bytes": len(header)}
    assert kept[0] is documents[0]
    assert [(d.document, d.reason) for d in dropped] == [(documents[2], "repeats earlier text")]


@given(st.lists(st.text("aé数🙂", max_size=13), max_size=5), st.integers(1, 7))
@settings(max_examples=50, deadline=None)
def test_cuts_never_split_a_character_and_lose_nothing_else(texts, min_bytes):
    documents = corpus(*texts)
    kept, dropped = remove_repeated_substrings(documents, min_bytes)
    assert len(kept) + len(dropped) == len(documents)
    for document in kept:
        whole = documents[document.meta["number"]]
        assert whole.n_bytes - document.n_bytes == document.meta.get("repeated_bytes", 0)
    if kept:
        assert kept[0] is documents[kept[0].meta["number"]] or "repeated_bytes" in kept[0].meta


def test_a_character_of_which_half_repeats_stays():
    documents = corpus("abcdé", "abcdè")  # the two accents share their first byte
    assert remove_repeated_substrings(documents, min_bytes=5)[0][1].text == "è"


def test_bad_settings_are_refused_and_nothing_gives_nothing():
    with pytest.raises(ValueError, match="length=0"):
        repeated_symbols(b"ab", [0, 2], 0)
    with pytest.raises(ValueError, match="from 0 to 2"):
        repeated_symbols(b"ab", [0, 1], 1)
    assert remove_repeated_substrings([]) == ([], [])
    assert remove_repeated_substrings(corpus("", ""))[0] == corpus("", "")
