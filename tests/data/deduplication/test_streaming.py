"""Decontamination of a file: what a list gives, in any number of processes, in bounded memory."""

import random
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlib.data import Document
from llmlib.data.corpora.document import iterate_documents, load_documents, save_documents
from llmlib.data.deduplication.contamination import decontamination
from llmlib.data.deduplication.contamination.decontamination import (
    EvaluationIndex,
    decontaminate,
    decontaminate_file,
    find_leaks,
)
from llmlib.data.stream.splits import corpus_size, known_paragraphs, shared_share

BLOCK = 20_000
ITEMS = [
    f"{word} is what the {number} guards of the old bridge asked of everybody who wished to pass"
    for number, word in enumerate(("bread", "silver", "a riddle", "a song", "nothing"))
]


def pages(n: int, *, seed: int = 0, planted: int = 7) -> Iterator[Document]:
    """So many pages of about 2,000 characters; the first ones hold an item each."""
    draw = random.Random(seed)
    for number in range(n):
        text = f"{draw.getrandbits(4_000):x}"
        words = [text[at : at + 5] for at in range(0, len(text), 5)]
        if number < planted:
            words.insert(30, ITEMS[number % 5].upper())
        text = " ".join(words[:100]) + "\n\n" + " ".join(words[100:])
        yield Document(text=text, source=f"page {number}")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decontamination, "HASHED_CHARACTERS", BLOCK)
    monkeypatch.setattr("llmlib.data.stream.splits.BLOCK_CHARACTERS", BLOCK)


@pytest.mark.covers("data.decontaminate")
@given(
    texts=st.lists(st.text("aAb ,.\n", max_size=31), max_size=13),
    items=st.lists(st.text("aAb ,.\n", max_size=17), max_size=5),
    n_words=st.integers(1, 3),
    max_documents=st.sampled_from([None, 1, 2]),
)
@settings(max_examples=50, deadline=None)
def test_a_file_is_decontaminated_as_a_list_is(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    items: list[str],
    n_words: int,
    max_documents: int | None,
) -> None:
    documents = [Document(text=text, source=f"d{i}", meta={"n": i}) for i, text in enumerate(texts)]
    kept, dropped, leaks = decontaminate(documents, items, n_words, 1, max_documents)
    folder = tmp_path_factory.mktemp("leaks")
    save_documents(folder / "all.jsonl", documents)
    counted = decontaminate_file(
        folder / "all.jsonl", folder / "kept.jsonl", items, n_words, 1, max_documents
    )
    assert load_documents(folder / "kept.jsonl") == kept
    assert [documents[number] for number in counted] == [d.document for d in dropped]
    if max_documents is None:
        assert [(d, i) for d, own in counted.items() for i in own] == [
            (leak.document, leak.item) for leak in leaks
        ]


@pytest.mark.usefixtures("forked_workers", "small_blocks")
def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    save_documents(corpus, [*pages(53), *pages(11, seed=1)])
    counted = [
        decontaminate_file(corpus, tmp_path / f"kept-{workers}.jsonl", ITEMS, workers=workers)
        for workers in (1, 2)
    ]
    assert counted[0] == counted[1]
    assert list(counted[0]) == [*range(7), *range(53, 60)]  # in different blocks
    assert list(counted[0].values()) == [[0], [1], [2], [3], [4], [0], [1]] * 2
    files = [(tmp_path / f"kept-{workers}.jsonl").read_bytes() for workers in (1, 2)]
    assert files[0] == files[1]
    held_out = [*pages(3, seed=1), Document(text="Nowhere else.", source="x")]
    shares = [shared_share(held_out, iterate_documents(corpus), workers=n) for n in (1, 2)]
    unknown = len("Nowhere else.") + 3 * len("\n\n")
    total = sum(document.n_bytes for document in held_out)
    assert shares[0] == shares[1] == (total - unknown) / total


@pytest.mark.usefixtures("small_blocks")
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    wanted = {"in no page"}

    def peak(n: int) -> int:
        corpus = tmp_path / f"{n}.jsonl"
        save_documents(corpus, pages(n))
        tracemalloc.start()
        counted = decontaminate_file(corpus, tmp_path / "kept.jsonl", ITEMS)
        assert not known_paragraphs(iterate_documents(corpus), wanted)
        kept = corpus_size(tmp_path / "kept.jsonl").documents
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(counted) == n - kept == 7
        return most

    peak(61)  # tables that are made once
    short, long = peak(61), peak(610)
    assert (tmp_path / "610.jsonl").stat().st_size > 700_000
    assert long < 1.05 * short


@pytest.mark.usefixtures("small_blocks")
def test_a_stream_is_read_as_its_leaks_are_asked_for() -> None:
    alive = most = read = 0

    def forget() -> None:
        nonlocal alive
        alive -= 1

    def watched() -> Iterator[Document]:
        nonlocal alive, most, read
        for document in pages(311, planted=311):
            alive, read = alive + 1, read + 1
            most = max(most, alive)
            weakref.finalize(document, forget)
            yield document

    leaks = find_leaks(watched(), EvaluationIndex.build(ITEMS))
    assert next(leaks).document == 0
    assert read < 40
    assert sum(1 for _ in leaks) == 310
    assert read == 311
    assert most < 40
