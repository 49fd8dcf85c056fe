"""A run accounts for every document, whatever the input does."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlib.data.cleaning import Dropped, ExactDuplicates, Pipeline, Readable, funnel_figure
from llmlib.data.cleaning.pipeline import TextFilter, TextTransform
from llmlib.data.cleaning.report import merge_reports
from llmlib.data.cleaning.steps import quality_step
from llmlib.data.corpora.document import Document
from llmlib.data.corpora.units import text_bytes


def doc(text: str, source: str = "test") -> Document:
    return Document(text=text, source=source)


SHORT = TextFilter("length", lambda text: "short" if len(text) < 5 else None)
DIGITS = TextFilter("digits", lambda text: "digits" if any(map(str.isdigit, text)) else None)
STRIP = TextTransform("white space", lambda text: " ".join(text.split()))


@given(st.lists(st.text(alphabet="ab 1é\n\ud800", max_size=11), max_size=17))
def test_every_document_and_byte_is_kept_or_dropped_once(texts: list[str]) -> None:
    dropped: list[tuple[str, Dropped]] = []
    pipeline = Pipeline(
        [STRIP, SHORT, DIGITS, ExactDuplicates()],
        on_drop=lambda name, drop: dropped.append((name, drop)),
    )
    documents = [doc(text) for text in texts]
    kept = list(pipeline.run(documents))
    report = pipeline.report()
    assert report.complete and report.error is None
    assert len(kept) + len(dropped) == len(documents) == report.steps[0].documents
    assert report.steps[0].bytes == sum(text_bytes(text) for text in texts)
    assert report.kept_bytes == sum(text_bytes(document.text) for document in kept)
    counts = Counter(f"{name}: {drop.reason}" for name, drop in dropped)
    assert report.reasons() == dict(counts)
    for before, after in zip(report.steps, report.steps[1:], strict=False):
        assert (after.documents, after.bytes) == (before.documents_left, before.bytes_left)
    assert report.funnel()[-1].bytes == report.kept_bytes
    assert report.funnel()[-1].documents == report.kept_documents == len(kept)
    assert list(pipeline.run(documents)) == kept  # the duplicates of the first run are forgotten


def test_a_lone_surrogate_has_a_size() -> None:
    assert text_bytes("\ud800é") == 5


def test_it_is_lazy_and_the_report_of_an_interrupted_run_is_whole() -> None:
    read = []

    def source() -> Iterator[Document]:
        for number in range(10**9):
            read.append(number)
            yield doc(f"sentence {number}" if number % 3 == 0 else "no")

    pipeline = Pipeline([SHORT], examples=2)
    run = pipeline.run(source())
    assert read == []
    assert [next(run).text for _ in range(3)] == ["sentence 0", "sentence 3", "sentence 6"]
    assert len(read) == 7
    report = pipeline.report()
    assert (report.steps[0].documents, report.kept_documents) == (7, 3)
    assert report.reasons() == {"length: short": 4}
    assert len(report.steps[1].examples["short"]) == 2
    assert not report.complete
    assert "not complete" in report.table()
    next(run)
    assert report.steps[0].documents == 7  # a copy
    assert pipeline.report().steps[0].documents == 10
    del run
    assert pipeline.report().kept_documents == 4


def broken_reader() -> Iterator[Document]:
    yield doc("a whole sentence")
    raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


def test_a_source_that_breaks_off_ends_the_run_in_order() -> None:
    pipeline = Pipeline([SHORT])
    assert len(list(pipeline.run(broken_reader()))) == 1
    report = pipeline.report()
    assert not report.complete
    assert report.error and "source broke off: UnicodeDecodeError" in report.error
    assert "broken off" in report.table()
    strict = Pipeline([SHORT], on_error="raise")
    with pytest.raises(RuntimeError, match="source broke off"):
        list(strict.run(broken_reader()))
    assert strict.report().kept_documents == 1


def test_a_step_that_fails_costs_one_document() -> None:
    fragile = TextFilter("fragile", lambda text: None if int(text) > 2 else "small")
    documents = [doc(text, f"file:{text}") for text in ("3", "x", "1", "7")]
    pipeline = Pipeline([fragile])
    assert [document.text for document in pipeline.run(documents)] == ["3", "7"]
    reasons = pipeline.report().reasons()
    assert sum(reasons.values()) == 2
    assert any("error: ValueError: invalid literal" in reason for reason in reasons)
    strict = Pipeline([fragile], on_error="raise")
    with pytest.raises(RuntimeError, match=r"step 'fragile' on file:x: ValueError"):
        list(strict.run(documents))
    report = strict.report()
    assert report.kept_documents + sum(report.reasons().values()) == 2 == report.steps[0].documents
    strays = iter(["text", *documents])  # an iterator: a list's items would be checked at the call
    assert len(list(pipeline.run(strays))) == 2  # type: ignore[arg-type]
    assert pipeline.report().reasons()["source: not a Document"] == 1


def zipped() -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", "The quick brown fox. " * 50)
    return buffer.getvalue().decode("latin-1")


PROSE = "Return the shortest path between two nodes of a graph."
NAIVE = "Le café du Père Noël est fermé à Noël, dit-il à l'élève.\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("", "empty"),
        (" \n\u3000\t", "empty"),
        (zipped(), "binary"),
        ("a\0b" + PROSE * 100, "binary"),
        (PROSE + "\f\r\n\t" + PROSE, None),
        (NAIVE, None),
        (NAIVE.encode("latin-1").decode("utf-8", "replace"), "wrong encoding"),
        (PROSE * 10 + "\ufffd", None),  # one lost character in 500
        (PROSE * 10 + "\udcff", "wrong encoding"),  # cannot be written again
        ("word " * 20_000, None),
        ("word " * 20_000 + "s", "gigantic line"),
        ("word \n" * 20_000, None),
        ("a line of eleven\n" * 120_000, "gigantic"),
    ],
)
def test_what_is_no_text_is_named(text: str, reason: str | None) -> None:
    assert Readable().reason(doc(text)) == reason


def test_an_empty_corpus_is_reported_and_not_drawn() -> None:
    pipeline = Pipeline([Readable(), quality_step()])
    assert list(pipeline.run([])) == []
    report = pipeline.report()
    assert report.complete
    assert "held no documents" in report.table()
    with pytest.raises(ValueError, match="read no text"):
        funnel_figure(report)


def test_table_and_figure_tell_the_same_story() -> None:
    documents = [doc(PROSE), doc("=" * 97), doc("a\0b"), doc("word " * 500)]
    documents.insert(2, doc(PROSE.replace(" ", "\n")))
    pipeline = Pipeline([Readable(), quality_step(), ExactDuplicates(), STRIP])
    kept = list(pipeline.run(documents))
    report = pipeline.report()
    assert [document.text for document in kept] == [PROSE]
    table = report.table()
    for line in ("readable: binary", "hardly prose: few letters", "hardly prose: long lines"):
        assert line in table
    assert "exact duplicates: duplicate" in table
    axes = funnel_figure(report).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "source",
        "readable",
        "hardly prose",
        "exact duplicates",
        "white space",
    ]
    shares = [bar.get_width() for bar in axes.containers[0]]  # type: ignore[union-attr]
    assert shares == pytest.approx([100, 80, 40, 20, 20])
    assert report.to_dict()["kept"] == {"documents": 1, "bytes": len(PROSE)}


def test_parts_add_up() -> None:
    documents = [doc(f"a  sentence {n}" if n % 5 else "no") for n in range(23)]
    whole, part = Pipeline([SHORT, STRIP]), Pipeline([SHORT, STRIP])
    list(whole.run(documents))
    reports = []
    for start in (0, 11):
        list(part.run(documents[start : start + 11 + start // 11]))
        reports.append(part.report())
    assert merge_reports(reports).to_dict() == whole.report().to_dict()
    assert merge_reports(reports).steps[1].examples == whole.report().steps[1].examples
    with pytest.raises(ValueError, match="different pipelines"):
        merge_reports([*reports, Pipeline([DIGITS]).report()])
    with pytest.raises(ValueError, match="no report"):
        merge_reports([])


def test_examples_are_short_and_the_whole_list_is_optional() -> None:
    seen: list[Dropped] = []
    long = doc("9" * 1000)
    pipeline = Pipeline([DIGITS], on_drop=lambda _, dropped: seen.append(dropped))
    list(pipeline.run([long]))
    assert seen[0].document is long
    assert len(pipeline.report().steps[1].examples["digits"][0].document.text) == 200


def test_pipelines_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="different names"):
        Pipeline([SHORT, SHORT])
    with pytest.raises(ValueError, match="not 'source'"):
        Pipeline([TextFilter("source", SHORT.judge)])
