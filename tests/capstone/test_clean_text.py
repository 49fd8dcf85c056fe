"""The capstone's cleaning: accounted to the last document, without leaks, in bounded memory."""

import itertools
import random
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from llmlib.capstone.clean_text import LEAK_WORDS, clean_text, cleaning_steps
from llmlib.capstone.presets import PRESETS, TextSource
from llmlib.data import Document, fixed_corpus
from llmlib.data.corpora.document import load_documents
from llmlib.data.stream.splits import shared_share

WORDS = [
    first + second
    for first in ("ba", "de", "ki", "lo", "mu", "na", "po", "ri", "se", "tu")
    for second in ("lam", "ner", "sit", "dov", "kes", "ram", "bol", "tig", "fan", "zul")
]


def sentences(draw: random.Random, n_words: int) -> str:
    words = draw.choices(WORDS, k=n_words)
    return ". ".join(f"The {' '.join(words[at : at + 10])} of that" for at in range(0, n_words, 10))


def invented(n_documents: int, n_words: int = 60) -> Iterator[Document]:
    draw = random.Random(7)
    for number in range(n_documents):
        yield Document(text=sentences(draw, n_words), source=f"page {number}")


def test_every_document_is_accounted_for(tmp_path: Path) -> None:
    documents = [*invented(211)]
    documents += documents[:13]
    documents.append(Document(text="Write to ann@example.org at once, or call nobody.", source="x"))
    documents.append(Document(text="PK\x03\x04\x00", source="a.zip"))
    result = clean_text(documents, TextSource(held_out=0.1), tmp_path)
    sizes = {step["name"]: step["documents"] for step in result["funnel"]}
    assert sizes["gathered"] == 226
    assert sizes["readable"] == 225
    assert sizes["exact duplicates"] == 212
    leaks = result["dropped"].pop("training part: holds held-out text")
    kept = sizes["training part"] + sizes["held-out part"] + result["left_out"]
    assert kept + sum(result["dropped"].values()) == 226
    assert sizes["training part without leaks"] == sizes["training part"] - leaks
    train, held_out = (load_documents(tmp_path / f"{n}.jsonl") for n in ("train", "held_out"))
    assert (len(train), len(held_out)) == (sizes["training part"] - leaks, sizes["held-out part"])
    texts = [document.text for document in train + held_out]
    assert not any("ann@example.org" in text for text in texts)
    assert any("<EMAIL>" in text for text in texts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["held_out.jsonl", "train.jsonl"]
    assert result["train_bytes"] == sum(d.n_bytes + 1 for d in train)


def test_training_text_that_quotes_the_held_out_part_goes(tmp_path: Path) -> None:
    corpus = replace(TextSource(held_out=0.1), max_overlap=1.0)
    clean_text(invented(97), corpus, tmp_path / "plain")
    held_out = load_documents(tmp_path / "plain" / "held_out.jsonl")
    draw = random.Random(11)
    quotes = [
        Document(
            text=f"{sentences(draw, 80)}. {' '.join(document.text.split()[:n])}. "
            f"{sentences(draw, 80)}.",
            source=f"quotation of {n}",
            meta={"module": "page 1#1"},  # the module of a training document
        )
        for document in held_out
        for n in (LEAK_WORDS - 1, LEAK_WORDS, 40)
    ]
    result = clean_text([*invented(97), *quotes], corpus, tmp_path / "quoted")
    train = load_documents(tmp_path / "quoted" / "train.jsonl")
    assert {d.text for d in load_documents(tmp_path / "quoted" / "held_out.jsonl")} >= {
        d.text for d in held_out
    }
    known = {quote.text: quote.source for quote in quotes}
    left = [known[d.text] for d in train if d.text in known]
    assert set(left) == {f"quotation of {LEAK_WORDS - 1}"}
    assert len(left) == len(held_out)
    assert result["dropped"]["training part: holds held-out text"] == 2 * len(held_out)


def test_leaks_that_are_left_in_are_counted(tmp_path: Path) -> None:
    corpus = TextSource(held_out=0.1, max_overlap=1.0)
    documents = [*invented(97)]
    documents.append(Document(text=documents[5].text + " And more.", source="x"))
    found = clean_text(documents, corpus, tmp_path / "out")
    left = clean_text(documents, replace(corpus, drop_leaks=False), tmp_path / "in")
    assert found["leaks"]["documents"] == left["leaks"]["documents"]
    assert left["train_bytes"] >= found["train_bytes"]
    names = [[step["name"] for step in result["funnel"]] for result in (found, left)]
    assert set(names[0]) - set(names[1]) == {"training part without leaks"}
    assert "training part: holds held-out text" not in left["dropped"]


def test_a_source_that_breaks_off_is_no_corpus(tmp_path: Path) -> None:
    def broken() -> Iterator[Document]:
        yield from invented(31)
        raise OSError("the connection was lost")

    with pytest.raises(ValueError, match="not read to its end.*connection was lost"):
        clean_text(broken(), TextSource(), tmp_path)


def test_web_pages_are_judged_by_the_rules_for_them() -> None:
    names = [step.name for step in cleaning_steps(PRESETS["gpu-124m"].corpus)]
    assert "Gopher quality" in names
    assert "near-duplicates" not in names
    assert "hardly prose" in [step.name for step in cleaning_steps(PRESETS["laptop"].corpus)]


def test_documents_pass_one_at_a_time(tmp_path: Path) -> None:
    alive = most = 0

    def forget() -> None:
        nonlocal alive
        alive -= 1

    def watched() -> Iterator[Document]:
        nonlocal alive, most
        for document in invented(151):
            alive += 1
            most = max(most, alive)
            weakref.finalize(document, forget)
            yield document

    clean_text(watched(), TextSource(held_out=0.1), tmp_path)
    assert most <= 3


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("kind", ["documentation", "web"])
def test_files_do_not_depend_on_the_number_of_processes(
    kind: Literal["documentation", "web"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("stream.splits.BLOCK", "deduplication.contamination.decontamination.HASHED"):
        monkeypatch.setattr(f"llmlib.data.{module}_CHARACTERS", 50_000)
    documents = [*itertools.islice(fixed_corpus(), 0, None, 11)]
    corpus = TextSource(kind=kind, max_overlap=0.5 if kind == "documentation" else 1.0)
    one, several = (
        clean_text(documents, corpus, tmp_path / str(workers), workers=workers)
        for workers in (1, 2)
    )
    assert one == several
    train, held_out = (load_documents(tmp_path / "1" / f"{n}.jsonl") for n in ("train", "held_out"))
    assert one["shared_with_train"] == round(shared_share(held_out, train), 4) > 0
    assert sum(one["dropped"].values()) > 20
    assert one["leaks"]["documents"] > 0
