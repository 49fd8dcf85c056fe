"""Deduplication: MinHash against datasketch in the same run, and exact substrings by size.

`python tests/benchmarks/bench_dedup.py [MB]` prints the tables and writes build/bench/dedup.json;
a number limits the sizes, for a trial. Both find the candidates of equal shingles with equal
numbers of hashes and bands, from texts to verified pairs, on one thread; repeats alternate. Recall
is against an exact join at the threshold.
"""

import itertools
import json
import os
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from datasketch import MinHash, MinHashLSH
from rich.console import Console
from rich.table import Table

from llmlib.core.files import atomic_write
from llmlib.core.hardware.memory import MemoryMeter
from llmlib.data import Document, fixed_code, fixed_corpus
from llmlib.data.corpora.fixed import FIXED_SHA256
from llmlib.data.deduplication import (
    near_duplicate_pairs,
    remove_repeated_substrings,
    shingle_sets,
    similar_pairs,
    tune_bands,
)
from llmlib.data.deduplication.exact import SPACING_ONLY, deduplicate_exact

THRESHOLD, N_WORDS, N_HASHES = 0.8, 5, 128
WEIGHTS = (0.01, 0.99)  # as near_duplicate_pairs chooses its bands
REPEATS = 3
NEAR_MB = (1, 4, 16)
SUBSTRING_MB = (1, 4, 10, 16)
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "dedup.json"


def pairs_ours(texts: list[str]) -> set[tuple[int, int]]:
    left, right = near_duplicate_pairs(shingle_sets(texts, N_WORDS), THRESHOLD, N_HASHES)
    return set(zip(left.tolist(), right.tolist(), strict=True))


def shingles_of(text: str) -> set[bytes]:
    words = text.split()
    starts = range(max(1, len(words) - N_WORDS + 1))
    return {" ".join(words[start : start + N_WORDS]).encode() for start in starts}


def pairs_theirs(texts: list[str]) -> set[tuple[int, int]]:
    lsh = MinHashLSH(num_perm=N_HASHES, params=tune_bands(THRESHOLD, N_HASHES, WEIGHTS))
    sets, pairs = [], set()
    for number, text in enumerate(texts):
        own = shingles_of(text)
        sketch = MinHash(num_perm=N_HASHES)
        sketch.update_batch(own)
        for key in lsh.query(sketch):
            other = int(str(key))
            both = len(own & sets[other])
            if both >= THRESHOLD * (len(own) + len(sets[other]) - both):
                pairs.add((other, number))
        lsh.insert(number, sketch)
        sets.append(own)
    return pairs


def first_megabytes(documents: list[Document], limit: float) -> list[Document]:
    sizes = itertools.accumulate(document.n_bytes for document in documents)
    return [d for d, size in zip(documents, sizes, strict=True) if size <= limit * 1e6]


def megabytes(documents: list[Document]) -> float:
    return round(sum(document.n_bytes for document in documents) / 1e6, 2)


def timed(work, *arguments) -> tuple[float, set[tuple[int, int]]]:
    begin = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - begin, result


def measure_near(documents: list[Document], corpus: str) -> dict:
    texts = [document.text for document in documents]
    exact = similar_pairs(shingle_sets(texts, N_WORDS), THRESHOLD)
    truth = set(zip(*(part.tolist() for part in exact), strict=True))
    seconds = []
    ours, theirs = set(), set()
    for _ in range(REPEATS):
        (ours_s, ours), (theirs_s, theirs) = timed(pairs_ours, texts), timed(pairs_theirs, texts)
        seconds.append((ours_s, theirs_s))
    ours_s, theirs_s = (statistics.median(column) for column in zip(*seconds, strict=True))
    return {
        "work": "near-duplicates",
        "corpus": corpus,
        "mb": megabytes(documents),
        "documents": len(documents),
        "ours_s": ours_s,
        "theirs_s": theirs_s,
        "time_ratio": statistics.median(a / b for a, b in seconds),
        "pairs": len(truth),
        "our_recall": len(ours & truth) / max(1, len(truth)),
        "their_recall": len(theirs & truth) / max(1, len(truth)),
        "our_precision": len(ours & truth) / max(1, len(ours)),
    }


def measure_substrings(documents: list[Document], corpus: str) -> dict:
    with MemoryMeter() as meter:
        begin = time.perf_counter()
        kept, dropped = remove_repeated_substrings(documents, min_bytes=200)
        seconds = time.perf_counter() - begin
    left = sum(document.n_bytes for document in kept)
    total = sum(document.n_bytes for document in documents)
    return {
        "work": "substrings",
        "corpus": corpus,
        "mb": megabytes(documents),
        "documents": len(documents),
        "ours_s": seconds,
        "bytes_a_byte": meter.extra_bytes / total,
        "removed": 1 - left / total,
        "dropped": len(dropped),
    }


def measure(limit: float) -> list[dict]:
    torch.set_num_threads(1)
    # Without copies recall counts the pairs that are not equal.
    prose, _ = deduplicate_exact(fixed_corpus(), SPACING_ONLY)
    order = np.random.default_rng(0).permutation(len(prose))
    prose = [prose[index] for index in order]
    both = prose + list(fixed_code())
    rows = [measure_near(first_megabytes(prose, limit), "docstrings")]
    rows += [
        measure_near(first_megabytes(both, size), "docstrings, then code")
        for size in NEAR_MB
        if size <= limit
    ]
    rows += [
        measure_substrings(first_megabytes(both, size), "docstrings, then code")
        for size in SUBSTRING_MB
        if size <= limit
    ]
    return rows


def show(rows: list[dict]) -> None:
    near = Table(title=f"MinHash, {N_HASHES} hashes, J >= {THRESHOLD}: medians of {REPEATS}")
    for head in ("MB", "documents", "ours s", "datasketch s", "ours / theirs", "recall", "docs/s"):
        near.add_column(head, justify="right")
    cuts = Table(title="Exact substrings of 200 bytes")
    for head in ("MB", "s", "MB/s", "bytes of memory a byte", "removed"):
        cuts.add_column(head, justify="right")
    for row in rows:
        if row["work"] == "substrings":
            numbers = (row["mb"], row["ours_s"], row["mb"] / row["ours_s"], row["bytes_a_byte"])
            cuts.add_row(*(f"{number:.2f}" for number in numbers), f"{row['removed']:.1%}")
            continue
        numbers = (row["ours_s"], row["theirs_s"], row["time_ratio"], row["our_recall"])
        cells = (f"{number:.3f}" for number in numbers)
        speed = f"{row['documents'] / row['ours_s']:,.0f}"
        near.add_row(str(row["mb"]), str(row["documents"]), *cells, speed)
    Console(width=100).print(near, cuts)


def main() -> None:
    rows = measure(float(sys.argv[1]) if len(sys.argv) > 1 else float("inf"))
    show(rows)
    report = {
        "threshold": THRESHOLD,
        "n_words": N_WORDS,
        "n_hashes": N_HASHES,
        "repeats": REPEATS,
        "corpus_sha256": FIXED_SHA256,
        "cores": os.cpu_count(),
        "datasketch": version("datasketch"),
        "rows": rows,
    }
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
