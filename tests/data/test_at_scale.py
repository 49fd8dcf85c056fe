"""Cleaning over many processes gives what one process gives, and goes on after an interruption."""

import json
from itertools import chain
from pathlib import Path

import pytest

from llmlib.data import Document
from llmlib.data.cleaning import ExactDuplicates, Pipeline
from llmlib.data.cleaning.pipeline import TextFilter, TextTransform
from llmlib.data.cleaning.rules.quality_rules import QualityRules
from llmlib.data.cleaning.scale.clean_shards import (
    clean_shards,
    cleaning_tasks,
    collect_shards,
    mark_duplicates,
)
from llmlib.data.cleaning.scale.estimate import Machines, estimate_cleaning
from llmlib.data.corpora.files import read_files
from llmlib.data.corpora.stories.story_domains import story_domains
from llmlib.data.deduplication.exact import SPACING_ONLY, deduplicate_exact

STEPS = [
    TextFilter("rules", QualityRules(min_bytes=100).reason),
    TextTransform("capitals", str.upper),
]


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Three files of unequal length with duplicates within and between them, and a bad line."""
    stories = [s.text for world in story_domains().values() for s in world.stories(41, seed=5)]
    parts = [stories[:60], [*stories[55:90], "  ".join(stories[3].split(" "))], stories[80:]]
    paths = []
    for number, part in enumerate(parts):
        lines = [json.dumps({"text": text}) for text in [*part, "short", "=" * 200, part[0]]]
        if number == 1:
            lines.insert(2, "{broken")
        path = tmp_path / f"shard-{number}.jsonl"
        path.write_text("\n".join(lines))
        paths.append(path)
    return paths


def in_one_process(paths: list[Path]) -> tuple[list[Document], Pipeline, int]:
    pipeline = Pipeline(STEPS)
    documents = chain.from_iterable(read_files(path, on_error="skip") for path in paths)
    kept, duplicates = deduplicate_exact(pipeline.run(documents), SPACING_ONLY)
    return kept, pipeline, len(duplicates)


@pytest.mark.slow
@pytest.mark.covers("data.at-scale")
def test_two_workers_give_what_one_process_gives(tmp_path: Path, shards: list[Path]) -> None:
    run = clean_shards(shards, tmp_path / "out", STEPS, workers=2)
    kept, pipeline, duplicates = in_one_process(shards)
    assert [*run.documents()] == kept
    assert 0 < duplicates < len(kept) and len(run.paths) == 3
    *steps, last = run.report.steps
    for ours, theirs in zip(steps, pipeline.report().steps, strict=True):
        assert (ours.documents, ours.bytes, ours.dropped) == (
            theirs.documents,
            theirs.bytes,
            theirs.dropped,
        )
    assert last.dropped == {"duplicate": duplicates} and run.report.complete
    assert run.report.kept_documents == len(kept)
    assert run.report.kept_bytes == sum(document.n_bytes for document in kept)
    assert run.problems == {"not JSON": 1}
    # Everything is done: the same call reads, and cleans nothing again.
    stamps = [path.stat().st_mtime_ns for path in run.paths]
    again = clean_shards(shards, tmp_path / "out", STEPS, workers=2)
    assert [path.stat().st_mtime_ns for path in again.paths] == stamps
    assert [*again.documents()] == kept


def test_the_tasks_alone_in_any_order_give_the_same(tmp_path: Path, shards: list[Path]) -> None:
    clean, drop = cleaning_tasks(shards, tmp_path / "out", STEPS)
    for rank in (2, 0, 1):
        assert not [*clean(None, rank, 3)]
    marked = mark_duplicates(tmp_path / "out", 3)
    for rank in (1, 2):
        assert not [*drop(None, rank, 3)]
    with pytest.raises(ValueError, match=r"1 files are not done, part-00000.jsonl first"):
        collect_shards(tmp_path / "out", 3)
    assert not [*drop(None, 0, 3)]
    kept, _, duplicates = in_one_process(shards)
    run = collect_shards(tmp_path / "out", 3)
    assert [*run.documents()] == kept and marked == duplicates
    example = run.report.steps[1].examples["short"][0]
    assert example.document.text == "short"


def test_what_cannot_be_cut_in_tasks_is_refused(tmp_path: Path, shards: list[Path]) -> None:
    with pytest.raises(ValueError, match="remember documents"):
        cleaning_tasks(shards, tmp_path / "out", [ExactDuplicates()])
    with pytest.raises(ValueError, match="nothing to clean"):
        cleaning_tasks([], tmp_path / "out", STEPS)
    cleaning_tasks(shards, tmp_path / "out", STEPS)
    for inputs, steps in ((shards[:2], STEPS), (shards, STEPS[:1])):
        with pytest.raises(ValueError, match="holds a run over other files or steps"):
            cleaning_tasks(inputs, tmp_path / "out", steps)


@pytest.mark.covers("data.at-scale")
def test_a_terabyte_on_paper() -> None:
    machine = Machines(count=1, cores=16, transfer_bytes_per_second=1e9)
    one = estimate_cleaning(1e12, bytes_per_second_and_core=2e6, machines=machine, kept=0.5)
    assert one.seconds["steps"] == pytest.approx(1e12 / 2e6 / 16)
    assert one.seconds["transfer"] == pytest.approx(2500)  # 1 read, 0.5 written, 0.5 and 0.5 again
    assert one.bottleneck == "steps" and one.fits
    assert one.total_seconds == one.seconds["steps"] + one.seconds["duplicates"]
    # Many machines shorten all but the one process, and a large enough corpus outgrows it.
    many = Machines(count=1000, cores=16)
    much = estimate_cleaning(1e15, bytes_per_second_and_core=2e6, machines=many, kept=0.5)
    assert much.bottleneck == "duplicates" or not much.fits
    quick = estimate_cleaning(1e12, bytes_per_second_and_core=1e9, machines=machine)
    assert quick.bottleneck == "transfer"
    with pytest.raises(ValueError, match="must be positive"):
        estimate_cleaning(0.0, bytes_per_second_and_core=1e6, machines=machine)
