"""Several processes clean as one does: the same documents, the same account."""

import os
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from llmlib.data.cleaning import ExactDuplicates, ParallelPipeline, Pipeline, Readable
from llmlib.data.cleaning.pipeline import Step, TextFilter, TextTransform
from llmlib.data.cleaning.scale import parallel
from llmlib.data.corpora.document import Document
from llmlib.data.deduplication.near.overlap import Overlapping

pytestmark = pytest.mark.usefixtures("forked_workers")


def too_short(text: str) -> str | None:
    if "broken" in text:
        raise KeyError("a rule with a defect")
    return f"under {10 * (1 + len(text) // 10)}" if len(text) < 40 else None


def squeezed(text: str) -> str:
    return " ".join(text.split())


def last_word(text: str) -> str | None:
    return "ends in seven" if text.endswith("seven") else None


def deadly(text: str) -> str | None:
    if "poison" in text:
        os._exit(9)
    return None


def steps() -> list[Step]:
    return [
        Readable(),
        TextTransform("white space", squeezed),
        ExactDuplicates(),
        TextFilter("length", too_short),
        Overlapping(0.5),
        TextFilter("ending", last_word),
    ]


NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "été")


def corpus(n: int) -> Iterator[Any]:
    """Yield documents and a stray text; of a list, the type check at the call draws one item."""
    draw = random.Random(3)
    texts = ["  ".join(draw.choices(NUMBERS, k=draw.randrange(1, 40))) for _ in range(n)]
    for _ in range(n // 5):
        texts.insert(draw.randrange(len(texts)), draw.choice(texts).replace("  ", " "))
    texts += [text + " one" for text in texts if len(text) > 200][::7]  # near-duplicates
    texts[7] += " broken"
    texts[11] += "\x00" * 40
    texts[13] += "\ud800"
    documents: list[Any] = [Document(text=t, source=f"no {i}") for i, t in enumerate(texts)]
    documents.insert(17, "a text that is no document")
    yield from documents


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "BLOCK_CHARACTERS", 997)


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_documents_and_account_are_those_of_one_process(workers: int) -> None:
    alone, together = Pipeline(steps(), examples=2), ParallelPipeline(steps(), workers, examples=2)
    kept = [*alone.run(corpus(211))]
    assert [*together.run(corpus(211))] == kept
    assert 20 < len(kept) < 211
    found, expected = together.report(), alone.report()
    assert vars(found) == vars(expected)
    assert all(step.dropped for step in expected.steps if step.name != "white space")
    assert [*together.run(corpus(211))] == kept  # nothing is remembered from the first run
    assert vars(together.report()) == vars(expected)


@pytest.mark.usefixtures("_small_blocks")
def test_a_source_that_breaks_off_leaves_the_account_of_what_was_read() -> None:
    def broken() -> Iterator[Document]:
        yield from islice(corpus(50), 17)
        raise OSError("the connection was lost")

    alone, together = Pipeline(steps()), ParallelPipeline(steps(), 2)
    assert [*together.run(broken())] == [*alone.run(broken())]
    found, expected = together.report(), alone.report()
    assert found.error == expected.error == "the source broke off: OSError: the connection was lost"
    assert not found.complete
    assert vars(found) == vars(expected)


@pytest.mark.slow
@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("after", [[], [ExactDuplicates()]])
def test_the_death_of_a_process_is_in_the_account(after: list[Step]) -> None:
    pipeline = ParallelPipeline([TextFilter("deadly", deadly), *after], 2)
    texts = [f"harmless number {number}" for number in range(300)]
    texts[150] = "poison"
    kept = [*pipeline.run(Document(text=text, source="x") for text in texts)]
    report = pipeline.report()
    assert not report.complete
    assert report.error is not None and "processes died" in report.error
    assert [document.text for document in kept] == texts[: len(kept)]
    assert len(kept) <= 150


def test_steps_that_remember_stay_here_in_whichever_place() -> None:
    documents = [Document(text=text, source="x") for text in ("one", "one", "seven", "two")]
    for chain in ([ExactDuplicates()], [ExactDuplicates(), TextFilter("ending", last_word)], []):
        alone, together = Pipeline(chain), ParallelPipeline(chain, 2)
        assert [*together.run(documents)] == [*alone.run(documents)]
        assert vars(together.report()) == vars(alone.report())


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        ParallelPipeline([Readable(), Readable()], 2)
