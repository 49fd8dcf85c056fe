"""WordPiece, Unigram and SentencePiece files against their libraries on the docstring corpus.

`python tests/benchmarks/bench_tokenizers.py` prints the table and writes
build/bench/tokenizers.json; `--mb 1` does it on less text. Ours and theirs take turns and use one
thread; encoding starts from a fresh tokenizer (SentencePiece has no cache to warm). WordPiece is
trained by count here, as the other trainer does, so that both do the same work.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sentencepiece
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from llmlib.core.files import atomic_write
from llmlib.data import fixed_code, fixed_corpus
from llmlib.data.corpora.fixed import CODE_SHA256, FIXED_SHA256
from llmlib.data.deduplication.exact import SPACING_ONLY, deduplicate_exact
from llmlib.data.tokenizers import CharacterBPE, SentencePieceModel, Unigram, WordPiece

VOCAB_SIZE = 4096
REPEATS = 3
SIZES = (1.0, 4.0, 16.0)  # MB; prose first, then code
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "tokenizers.json"


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(
    name: str, mb: float, ours: Callable[[], object], theirs: Callable[[], object]
) -> dict[str, Any]:
    """Time two pieces of work in turn; the median of each and of their ratio."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(REPEATS)]
    return {
        "work": name,
        "mb": mb,
        "ours_s": statistics.median(pair[0] for pair in pairs),
        "theirs_s": statistics.median(pair[1] for pair in pairs),
        "time_ratio": statistics.median(pair[0] / pair[1] for pair in pairs),
    }


def first_megabytes(texts: list[str], limit: float) -> list[str]:
    sizes = itertools.accumulate(len(text.encode()) for text in texts)
    return [text for text, size in zip(texts, sizes, strict=True) if size <= limit * 1e6]


def wordpiece_library(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()  # pyright: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=["[UNK]"], min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def unigram_library(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def character_library(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def measure_training(texts: list[str], mb: float) -> list[dict[str, Any]]:
    works = [
        (
            "train WordPiece",
            lambda: WordPiece.train(texts, VOCAB_SIZE, ["[UNK]"], score="count"),
            lambda: wordpiece_library(texts),
        ),
        (
            "train Unigram",
            lambda: Unigram.train(texts, VOCAB_SIZE, byte_fallback=False),
            lambda: unigram_library(texts),
        ),
        (
            "train character BPE",
            lambda: CharacterBPE.train(texts, VOCAB_SIZE, byte_fallback=False, cut="whitespace"),
            lambda: character_library(texts),
        ),
    ]
    return [compare(name, mb, ours, theirs) for name, ours, theirs in works]


def measure_encoding(texts: list[str], mb: float) -> list[dict[str, Any]]:
    small = first_megabytes(texts, 1.0)
    word = WordPiece.train(small, VOCAB_SIZE, ["[UNK]"], score="count")
    word_ids = {token: i for i, token in enumerate(word.tokens)}
    unigram = Unigram.train(small, VOCAB_SIZE, ["<unk>"], byte_fallback=False, cut="whitespace")

    def word_library() -> None:
        tokenizer = Tokenizer(models.WordPiece(word_ids, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()  # pyright: ignore
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # pyright: ignore
        tokenizer.encode_batch(texts)

    def unigram_library_encode() -> None:
        tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *unigram.pieces], unk_id=0))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore
        tokenizer.encode_batch(texts)

    rows = [
        compare(
            "encode WordPiece",
            mb,
            lambda: WordPiece(word.tokens, ["[UNK]"]).encode_batch(texts),
            word_library,
        ),
        compare(
            "encode Unigram",
            mb,
            lambda: Unigram(
                unigram.pieces, ["<unk>"], byte_fallback=False, cut="whitespace"
            ).encode_batch(texts),
            unigram_library_encode,
        ),
    ]
    lines = [line for text in first_megabytes(texts, min(mb, 1.0)) for line in text.split("\n")]
    size = round(sum(len(line.encode()) + 1 for line in lines) / 1e6, 2)
    for model_type in ("unigram", "bpe"):
        model = SentencePieceModel.train(small, VOCAB_SIZE, model_type=model_type)
        library = sentencepiece.SentencePieceProcessor(model_proto=model.model)
        rows.append(
            compare(
                f"encode SentencePiece {model_type}",
                size,
                lambda model=model: model.encode_batch(lines),
                lambda library=library: library.encode(lines, num_threads=1),
            )
        )
    return rows


def measure(largest: float) -> list[dict[str, Any]]:
    documents, _ = deduplicate_exact(fixed_corpus(), SPACING_ONLY)
    texts = [document.text for document in documents]
    random.Random(0).shuffle(texts)
    texts += [document.text for document in fixed_code()]
    rows: list[dict[str, Any]] = []
    for limit in SIZES:
        if limit <= largest:
            rows += measure_training(first_megabytes(texts, limit), limit)
    for limit in SIZES[:2]:
        if limit <= largest:
            rows += measure_encoding(first_megabytes(texts, limit), limit)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=float, default=SIZES[-1], help="largest size in MB")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rows = measure(parser.parse_args().mb)
    table = Table(title=f"Subword tokenizers, vocabulary {VOCAB_SIZE}: medians of {REPEATS}")
    for head in ("work", "MB", "ours s", "library s", "our time / theirs", "our MB/s"):
        table.add_column(head, justify="right")
    for row in rows:
        numbers = (row["mb"], row["ours_s"], row["theirs_s"], row["time_ratio"])
        speed = f"{row['mb'] / row['ours_s']:.2f}"
        table.add_row(row["work"], *(f"{number:.2f}" for number in numbers), speed)
    Console(width=110).print(table)
    report = {
        "vocab_size": VOCAB_SIZE,
        "repeats": REPEATS,
        "corpus_sha256": [FIXED_SHA256, CODE_SHA256],
        "cores": os.cpu_count(),
        "tokenizers": version("tokenizers"),
        "sentencepiece": version("sentencepiece"),
        "rows": rows,
    }
    atomic_write(OUTPUT, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
