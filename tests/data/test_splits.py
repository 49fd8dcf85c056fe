"""Files are split as lists are, without the training part in memory."""

import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data import Document, split_by_module
from llmlib.data.corpora.document import corpus_bytes, load_documents, save_documents
from llmlib.data.stream.splits import split_files

PARAGRAPHS = st.sampled_from(["Shared words.", "Other shared words.", "A", "Longer text, once."])


def document(module: int, paragraphs: list[str]) -> Document:
    return Document(text="\n\n".join(paragraphs), source="test", meta={"module": f"m{module}"})


@given(
    modules=st.lists(st.lists(PARAGRAPHS, min_size=1, max_size=4), min_size=2, max_size=23),
    held_out=st.floats(0.05, 0.6),
    seed=st.integers(0, 3),
)
def test_both_ways_give_the_same_parts(
    tmp_path_factory: pytest.TempPathFactory,
    modules: list[list[str]],
    held_out: float,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("split")
    corpus, train, held = (folder / f"{name}.jsonl" for name in ("corpus", "train", "held"))
    documents = [document(number % 7, parts) for number, parts in enumerate(modules)]
    save_documents(corpus, documents)
    try:
        expected = split_by_module(documents, held_out, seed)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)[:20]):
            split_files(corpus, train, held, held_out, seed)
        return
    sizes = split_files(corpus, train, held, held_out, seed)
    assert load_documents(train) == expected.train
    assert load_documents(held) == expected.held_out
    assert sizes.shared == expected.shared
    assert sizes.left_out == len(expected.left_out)
    assert sizes.train == (len(expected.train), corpus_bytes(expected.train))
    assert sizes.held_out == (len(expected.held_out), corpus_bytes(expected.held_out))


def test_the_training_part_passes_through(tmp_path: Path) -> None:
    def texts() -> Iterator[Document]:
        draw = random.Random(5)
        for number in range(2_003):
            yield document(number, [f"{draw.getrandbits(20_000):x}"])  # 5 kB each, 10 MB

    corpus = tmp_path / "corpus.jsonl"
    save_documents(corpus, texts())
    tracemalloc.start()
    sizes = split_files(corpus, tmp_path / "train.jsonl", tmp_path / "held.jsonl", 0.02)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sizes.train[1] > 9_000_000
    assert peak < 5_000_000
