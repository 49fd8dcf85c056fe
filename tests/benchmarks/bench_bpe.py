"""Byte-level BPE against Hugging Face tokenizers on the docstring corpus, in the same run.

`python tests/benchmarks/bench_bpe.py` prints the table and writes build/bench/bpe.json. Theirs
trains with as many threads as it likes and encodes with one, as ours does. Repeats alternate
between the two, and each starts from a fresh tokenizer, so neither profits from a warm cache.

The textbook's loop, which counts the corpus again after each merge, is timed on a small text;
`--loop` does that alone, on a third of it, and prints how many times as long it takes.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmlib.core.files import atomic_write
from llmlib.data import ByteBPE, fixed_corpus
from llmlib.data.corpora.fixed import FIXED_SHA256
from llmlib.data.deduplication.exact import SPACING_ONLY, deduplicate_exact
from llmlib.data.tokenizers.bpe.symbols import as_symbols
from llmlib.data.tokenizers.pretokenization import pretokenize

VOCAB_SIZE = 8192
SPECIAL = ["<|endoftext|>"]
REPEATS = 5
TRAIN_MB = (1, 4, 100)  # the last means all, 6.8 MB
ENCODE_MB = 100  # all of it
LOOP_BYTES, LOOP_MERGES = 300_000, 200  # what the textbook's loop can do in half a minute
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "bpe.json"


def train_theirs(texts: list[str]) -> Tokenizer:
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_ours(texts: list[str]) -> ByteBPE:
    return ByteBPE.train(texts, VOCAB_SIZE, SPECIAL)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(
    work: str,
    mb: float,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Time two pieces of work in turn; the median of each and of their ratio."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return {
        "work": work,
        "mb": mb,
        "ours_s": statistics.median(pair[0] for pair in pairs),
        "theirs_s": statistics.median(pair[1] for pair in pairs),
        "time_ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    }


def first_megabytes(texts: list[str], limit: float) -> list[str]:
    """The texts up to a size, in millions of bytes."""
    sizes = itertools.accumulate(len(text.encode()) for text in texts)
    return [text for text, size in zip(texts, sizes, strict=True) if size <= limit * 1e6]


def megabytes(texts: list[str]) -> float:
    return round(sum(len(text.encode()) for text in texts) / 1e6, 2)


def measure_training(texts: list[str]) -> dict:
    return compare(
        "train", megabytes(texts), lambda: train_ours(texts), lambda: train_theirs(texts)
    )


def measure_encoding(texts: list[str], bpe: ByteBPE, reference: Tokenizer, batch: bool) -> dict:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Each repeat takes a fresh pair of tokenizers, made before the clock starts.
    ours = iter([ByteBPE(bpe.merges, SPECIAL) for _ in range(REPEATS)])
    serialized = reference.to_str()
    theirs = iter([Tokenizer.from_str(serialized) for _ in range(REPEATS)])

    def encode(tokenizer: ByteBPE | Tokenizer) -> None:
        if batch:
            tokenizer.encode_batch(texts)
        else:
            for text in texts:
                tokenizer.encode(text)

    work = "encode_batch" if batch else "encode"
    return compare(work, megabytes(texts), lambda: encode(next(ours)), lambda: encode(next(theirs)))


def textbook_merges(words: list[list[int]], n_merges: int) -> list[tuple[int, int]]:
    """The textbook's loop: count every pair, merge the commonest everywhere, start over."""
    merges: list[tuple[int, int]] = []
    while len(merges) < n_merges:
        counts = Counter(pair for word in words for pair in itertools.pairwise(word))
        pair = min(counts, key=lambda p: (-counts[p], p))
        merges.append(pair)
        for word in words:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == pair:
                    word[at : at + 2] = [255 + len(merges)]
                at += 1
    return merges


def measure_loop(texts: list[str], n_bytes: int = LOOP_BYTES) -> dict:
    """Time the loop once and ours in the median, in the same run, on the same bytes."""
    text = "".join(texts)[:n_bytes]
    words = [[ord(c) for c in as_symbols(piece.encode())] for piece in pretokenize(text)]
    begin = time.perf_counter()
    merges = textbook_merges(words, LOOP_MERGES)
    loop = time.perf_counter() - begin
    ours = [seconds(lambda: ByteBPE.train([text], 256 + LOOP_MERGES)) for _ in range(REPEATS)]
    assert ByteBPE.train([text], 256 + LOOP_MERGES).merges == merges
    return {
        "work": f"train, beside the textbook's loop, {LOOP_MERGES} merges",
        "mb": megabytes([text]),
        "ours_s": statistics.median(ours),
        "theirs_s": loop,
        "time_ratio": statistics.median(ours) / loop,
        "loop_over_ours": loop / statistics.median(ours),
    }


def shuffled_corpus() -> list[str]:
    documents, _ = deduplicate_exact(fixed_corpus(), SPACING_ONLY)
    texts = [document.text for document in documents]
    random.Random(0).shuffle(texts)
    return texts


def measure() -> list[dict]:
    texts = shuffled_corpus()
    rows = [measure_training(first_megabytes(texts, limit)) for limit in TRAIN_MB]
    bpe, reference = train_ours(texts), train_theirs(texts)
    sample = first_megabytes(texts, ENCODE_MB)
    equal = all(bpe.encode(text) == reference.encode(text).ids for text in sample)
    assert equal, "the two tokenizers give different ids: the timings compare nothing"
    rows += [measure_encoding(sample, bpe, reference, batch) for batch in (False, True)]
    return [*rows, measure_loop(texts)]


def show(title: str, report: dict[str, Any], rows: list[dict[str, Any]], output: Path) -> None:
    """Print the rows and write the report."""
    size, repeats = report["vocab_size"], report["repeats"]
    table = Table(title=f"{title}, vocabulary {size}: medians of {repeats}")
    for head in ("work", "MB", "ours s", "theirs s", "our time / theirs", "our MB/s"):
        table.add_column(head, justify="right")
    for row in rows:
        numbers = (row["mb"], row["ours_s"], row["theirs_s"], row["time_ratio"])
        speed = f"{row['mb'] / row['ours_s']:.2g}"
        table.add_row(row["work"], *(f"{number:.3g}" for number in numbers), speed)
    Console(width=110).print(table)
    content = {**report, "cores": os.cpu_count(), "rows": rows}
    atomic_write(output, json.dumps(content, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", action="store_true", help="only the textbook's loop")
    if parser.parse_args().loop:
        print(f"{measure_loop(shuffled_corpus(), LOOP_BYTES // 3)['loop_over_ours']:.1f}")
        return
    report = {
        "vocab_size": VOCAB_SIZE,
        "repeats": REPEATS,
        "corpus_sha256": FIXED_SHA256,
        "tokenizers": version("tokenizers"),
    }
    show("Byte-level BPE", report, measure(), OUTPUT)


if __name__ == "__main__":
    main()
