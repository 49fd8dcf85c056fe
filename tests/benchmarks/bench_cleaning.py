"""Megabytes a second of every cleaning step and of all together, and how the time grows.

`python tests/benchmarks/bench_cleaning.py` prints the table and writes build/bench/cleaning.json;
`LLMLIB_BENCH_MB=1` measures a single size. The corpus is the fixed docstrings, the King James Bible
and code, shuffled, each document once. Time is the processor's, on one core; steps take turns. The
last line is all steps by the clock on the wall, in this process and in two others, whose start is
measured with a single document.
"""

import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from llmlib.core.files import atomic_write
from llmlib.data import Document, fixed_code, fixed_corpus, king_james
from llmlib.data.cleaning import (
    ExactDuplicates,
    GopherQuality,
    GopherRepetition,
    KeywordFilter,
    LanguageFilter,
    ParallelPipeline,
    PerplexityFilter,
    Pipeline,
    QualityFilter,
    Readable,
    ToxicityFilter,
    c4_steps,
    language_model,
    made_up_crawl,
    reference_texts,
    train_perplexity_model,
    train_quality_model,
)
from llmlib.data.cleaning.pipeline import Step
from llmlib.data.cleaning.steps import quality_step
from llmlib.data.corpora.fixed import CODE_SHA256, FIXED_SHA256, KING_JAMES_SHA256

SIZES = tuple(map(int, os.environ.get("LLMLIB_BENCH_MB", "1 4 16").split()))
REPEATS = 3
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "cleaning.json"


def corpus(megabytes: int) -> list[Document]:
    documents = [*fixed_corpus(), *king_james(), *fixed_code()]
    random.Random(0).shuffle(documents)
    chosen, size = [], 0
    for document in documents:
        if size >= megabytes * 1e6:
            break
        chosen.append(document)
        size += document.n_bytes
    return chosen


def step_makers() -> dict[str, Callable[[], list[Step]]]:
    """Each step alone, fresh for each repeat; models are trained once."""
    reference = reference_texts("train", 2000)
    quality = train_quality_model(reference, made_up_crawl(2000))
    perplexity = train_perplexity_model(reference)
    language = language_model()
    makers: dict[str, Callable[[], list[Step]]] = {
        "readable": lambda: [Readable()],
        "exact duplicates": lambda: [ExactDuplicates()],
        "hardly prose": lambda: [quality_step()],
        "Gopher quality": lambda: [GopherQuality()],
        "Gopher repetition": lambda: [GopherRepetition()],
        "C4": lambda: [*c4_steps()],
        "keywords": lambda: [KeywordFilter()],
        "language": lambda: [LanguageFilter(model=language)],
        "quality": lambda: [QualityFilter(model=quality)],
        "toxicity": lambda: [ToxicityFilter()],
        "perplexity": lambda: [PerplexityFilter(model=perplexity, max_bits=8.0)],
    }
    # Cheap rules first: what they drop, the models need not read. C4's page rule would drop code
    # at once and make the rest look fast, so the whole pipeline goes without it.
    order = [name for name in makers if name != "C4"]
    makers["all but C4"] = lambda: [step for name in order for step in makers[name]()]
    return makers


def seconds(documents: list[Document], steps: list[Step]) -> tuple[float, int]:
    begin = time.process_time()
    kept = sum(document.n_bytes for document in Pipeline(steps).run(documents))
    return time.process_time() - begin, kept


def measure(makers: dict[str, Callable[[], list[Step]]]) -> list[dict]:
    rows = []
    for size in SIZES:
        documents = corpus(size)
        read = sum(document.n_bytes for document in documents) / 1e6
        times: dict[str, list[float]] = {name: [] for name in makers}
        kept: dict[str, int] = {}
        for _ in range(REPEATS):
            for name, make in makers.items():
                spent, kept[name] = seconds(documents, make())
                times[name].append(spent)
        for name in makers:
            median = statistics.median(times[name])
            rows.append(
                {
                    "step": name,
                    "mb": round(read, 2),
                    "documents": len(documents),
                    "seconds": median,
                    "mb_per_s": read / median,
                    "kept_share": kept[name] / 1e6 / read,
                }
            )
    return rows


def by_processes(make: Callable[[], list[Step]]) -> list[dict]:
    """All steps over the largest size, by the wall's clock."""
    documents = corpus(SIZES[-1])
    read = sum(document.n_bytes for document in documents) / 1e6

    def wall(chosen: list[Document], workers: int) -> float:
        pipeline = ParallelPipeline(make(), workers)
        begin = time.perf_counter()
        kept = sum(1 for _ in pipeline.run(chosen))
        spent = time.perf_counter() - begin
        assert kept == pipeline.report().kept_documents
        return spent

    rows = []
    for workers in (1, 2):
        start = statistics.median(wall(documents[:1], workers) for _ in range(REPEATS))
        seconds = statistics.median(wall(documents, workers) for _ in range(REPEATS))
        rows.append(
            {"processes": workers, "mb": round(read, 2), "start_seconds": start, "seconds": seconds}
        )
    return rows


def main() -> None:
    makers = step_makers()
    rows, parallel = measure(makers), by_processes(makers["all but C4"])
    table = Table(title=f"Cleaning on one core: medians of {REPEATS}")
    for head in ("step", "MB", "documents", "s", "MB/s", "kept"):
        table.add_column(head, justify="left" if head == "step" else "right")
    for row in rows:
        table.add_row(
            row["step"],
            f"{row['mb']:.1f}",
            f"{row['documents']:,}",
            f"{row['seconds']:.2f}",
            f"{row['mb_per_s']:.1f}",
            f"{row['kept_share']:.0%}",
        )
    Console(width=100).print(table)
    one, two = (row["seconds"] - row["start_seconds"] for row in parallel)
    print(
        f"{parallel[1]['mb']:.1f} MB in two processes: {one / two:.2f} times as fast as in one, "
        f"after a start of {parallel[1]['start_seconds']:.1f} s"
    )
    report = {
        "repeats": REPEATS,
        "corpus_sha256": [FIXED_SHA256, KING_JAMES_SHA256, CODE_SHA256],
        "cores": os.cpu_count(),
        "rows": rows,
        "by_processes": parallel,
    }
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
