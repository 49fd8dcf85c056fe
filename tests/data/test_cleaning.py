"""Cleaning accounts for every document, and held-out text is not training text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data import Document, fixed_corpus, split_by_module
from llmlib.data.cleaning.rules.quality_rules import QualityRules
from llmlib.data.cleaning.steps import clean
from llmlib.data.corpora.document import corpus_bytes
from llmlib.data.deduplication.exact import SPACING_ONLY, deduplicate_exact
from llmlib.data.stream.splits import shared_share


def doc(text: str, module: str = "m") -> Document:
    return Document(text=text, source="test", meta={"module": module})


PROSE = "Return the shortest path between two nodes of a graph."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("Return the nodes of this graph!!", None),  # 32 bytes, the fewest that pass
        ("Return the nodes of this graph!", "short"),
        ("é" * 16, None),  # bytes count, not characters
        ("深い湖の底に眠る古い街の物語がある。", None),
        ("3.14159 2.71828 1.41421 1.73205 0.57721", "few letters"),
        (" \n" * 40, "few letters"),
        (">>> import sympy\n>>> sympy.init()\n... again\nprinted", "mostly examples"),
        (f"{PROSE}\nExample:\n>>> import sympy\n>>> sympy.init()\n>>> more", None),
        ("one line of text here\n" * 5 + "another line of text", "repeated lines"),
        ("one line of text here\n" * 2 + "another line of text\nlast", None),
        ("word " * 500, "long lines"),
    ],
)
def test_each_rule_has_a_document_on_either_side(text: str, reason: str | None) -> None:
    assert QualityRules().reason(text) == reason


def test_only_white_space_is_ignored_when_looking_for_duplicates() -> None:
    first = doc("Add two numbers.")
    same = [doc("Add two\n    numbers."), doc(" Add\ttwo numbers.\n"), doc("Add two\u00a0numbers.")]
    other = [doc("add two numbers."), doc("Add two numbers"), doc("Addtwo numbers.")]
    kept, dropped = deduplicate_exact([first, *same, *other, first], SPACING_ONLY)
    assert kept == [first, *other]
    assert [d.document for d in dropped] == [*same, first]
    assert {d.reason for d in dropped} == {"duplicate of test"}


@given(st.lists(st.text(alphabet="ab .\n", max_size=47), max_size=13))
def test_nothing_is_lost_without_a_reason(texts: list[str]) -> None:
    documents = [doc(PROSE), *map(doc, texts)]
    corpus = clean(documents)
    assert len(corpus.documents) + len(corpus.dropped) == len(documents)
    assert sum(corpus.reasons().values()) == len(corpus.dropped)
    assert [step.name for step in corpus.funnel] == ["gathered", "deduplicated", "filtered"]
    assert corpus.funnel[0].bytes == corpus_bytes(documents)
    assert corpus.funnel[-1].bytes == corpus_bytes(corpus.documents)
    sizes = [(step.documents, step.bytes) for step in corpus.funnel]
    assert sizes == sorted(sizes, reverse=True)
    assert clean(corpus.documents).documents == corpus.documents


def test_a_corpus_of_nothing_but_dirt() -> None:
    with pytest.raises(ValueError, match=r"left nothing of 3 documents: \{'short': 2, 'dup"):
        clean([doc("a"), doc("b"), doc("a")])


def test_the_fixed_corpus_loses_little() -> None:
    corpus = clean(fixed_corpus())
    gathered, unique, filtered = corpus.funnel
    assert (gathered.documents, unique.documents) == (12_427, 11_559)
    assert 0.94 < filtered.documents / unique.documents < 0.97
    assert filtered.bytes > 0.985 * unique.bytes
    split = split_by_module(corpus.documents)
    held = corpus_bytes(split.held_out)
    assert 0.04 < held / (held + corpus_bytes(split.train)) < 0.07
    modules = [{d.meta["module"] for d in part} for part in (split.train, split.held_out)]
    assert not modules[0] & modules[1]
    assert len(modules[1]) > 20
    assert split.shared == shared_share(split.held_out, split.train) < 0.06
    assert len(split.train + split.held_out + split.left_out) == len(corpus.documents)


def numbered(n_modules: int, each: int = 3) -> list[Document]:
    return [
        doc(f"Node {number} of module {module}, unlike any other.", f"m{module}")
        for module in range(n_modules)
        for number in range(each)
    ]


def test_a_split_depends_on_the_seed_alone() -> None:
    documents = numbered(101)
    split = split_by_module(documents, held_out=0.1, seed=3)
    assert 0.1 <= len(split.held_out) / len(documents) < 0.12
    assert split_by_module(documents[::-1], held_out=0.1, seed=3).held_out == split.held_out[::-1]
    assert split_by_module(documents, held_out=0.1, seed=5).held_out != split.held_out
    more = split_by_module([*documents, *numbered(103)[-6:]], held_out=0.1, seed=3)
    moved = {d.text for d in more.held_out} ^ {d.text for d in split.held_out}
    assert len(moved) <= 9


def test_text_that_stands_in_the_training_part_is_left_out() -> None:
    licence = "Permission is granted to anyone to use this for any purpose."
    documents = numbered(11)
    documents += [doc(f"{licence}\n\nShort {module}.", f"m{module}") for module in range(11)]
    split = split_by_module(documents, held_out=0.3)
    assert len(split.left_out) == len({d.meta["module"] for d in split.held_out})
    assert all(licence in d.text for d in split.left_out)
    assert split.shared == 0
    kept = split_by_module(documents, held_out=0.3, max_shared=1.0)
    assert kept.left_out == []
    assert kept.shared == shared_share(kept.held_out, kept.train) > 0.2


def test_splits_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="1 module cannot be split in two"):
        split_by_module(numbered(1))
    with pytest.raises(ValueError, match=r"held_out=1.0 must lie between"):
        split_by_module(numbered(3), held_out=1.0)
    with pytest.raises(ValueError, match=r'from elsewhere has no meta\["module"\]'):
        split_by_module([Document(text="a", source="elsewhere")])
    with pytest.raises(ValueError, match="no held-out document remains"):
        split_by_module([doc("same", "a"), doc("same", "b")])
    assert len(split_by_module(numbered(2, 1), held_out=0.99).train) == 1
