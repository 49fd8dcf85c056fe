"""WordPiece, Unigram and SentencePiece files against their libraries on the docstring corpus.

`python tests/benchmarks/bench_tokenizers.py` prints the table and writes
build/bench/tokenizers.json; `--mb 1` does it on less text. Ours and theirs take turns and use one
thread; encoding starts from a fresh tokenizer (SentencePiece has no cache to warm). WordPiece is
trained by count here, as the other trainer does, so that both do the same work.
"""

import argparse
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sentencepiece
from bench_bpe import compare, first_megabytes, show, shuffled_corpus
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from llmlib.data import fixed_code
from llmlib.data.corpora.fixed import CODE_SHA256, FIXED_SHA256
from llmlib.data.tokenizers import CharacterBPE, SentencePieceModel, Unigram, WordPiece

VOCAB_SIZE = 4096
REPEATS = 3
SIZES = (1.0, 4.0, 16.0)  # MB; prose first, then code
OUTPUT = Path(__file__).parents[2] / "build" / "bench" / "tokenizers.json"


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
    return [compare(name, mb, ours, theirs, REPEATS) for name, ours, theirs in works]


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
            REPEATS,
        ),
        compare(
            "encode Unigram",
            mb,
            lambda: Unigram(
                unigram.pieces, ["<unk>"], byte_fallback=False, cut="whitespace"
            ).encode_batch(texts),
            unigram_library_encode,
            REPEATS,
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
                REPEATS,
            )
        )
    return rows


def measure(largest: float) -> list[dict[str, Any]]:
    texts = shuffled_corpus()
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
    report = {
        "vocab_size": VOCAB_SIZE,
        "repeats": REPEATS,
        "corpus_sha256": [FIXED_SHA256, CODE_SHA256],
        "tokenizers": version("tokenizers"),
        "sentencepiece": version("sentencepiece"),
    }
    show("Subword tokenizers", report, rows, OUTPUT)


if __name__ == "__main__":
    main()
