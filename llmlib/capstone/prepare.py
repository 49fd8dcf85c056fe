"""The capstone's first half: from gathered text to a tokenizer and token shards."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from llmlib.capstone.clean_text import clean_text
from llmlib.capstone.presets import TextSource
from llmlib.capstone.stages import Stages
from llmlib.core.hardware.machine import available_cores
from llmlib.core.processes.workers import Workers
from llmlib.data.cleaning.scale.parallel import BLOCK_CHARACTERS
from llmlib.data.corpora.document import Document, iterate_documents, text_blocks
from llmlib.data.corpora.environment import pydocs
from llmlib.data.corpora.files import read_texts
from llmlib.data.corpora.fixed import fixed_corpus
from llmlib.data.corpora.hub import hub_texts
from llmlib.data.stream.shards import TokenShards, write_shards
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE

END_OF_TEXT = "<|endoftext|>"
MOST_WORKERS = 32  # one process reads and writes for all of them: more would wait for it


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What training and evaluation read."""

    folder: Path
    """Holds `train.jsonl` and `held_out.jsonl`, the cleaned texts."""
    tokenizer: ByteBPE
    """Trained on the training part."""
    train: TokenShards
    held_out: TokenShards
    train_bytes: int
    """UTF-8 bytes of the training part, a separator a document included."""
    held_out_bytes: int

    @property
    def end_of_text(self) -> int:
        """Id of the token that ends each document."""
        return self.tokenizer.special_tokens[END_OF_TEXT]


def read_source(source: TextSource) -> Iterator[Document]:
    """Yield the documents of a source, in its order, up to `max_bytes`.

    Raises:
        ValueError: When the source cannot be read or holds no text.
    """
    size = 0
    for document in _all_documents(source.name):
        if source.max_bytes and size >= source.max_bytes:
            return
        size += document.n_bytes
        yield document
    if size == 0:
        raise ValueError(f"the corpus {source.name!r} holds no text: name another with --corpus")


def _all_documents(name: str) -> Iterable[Document]:
    if name == "fixed":
        return fixed_corpus()
    if name == "environment":
        return pydocs()
    if name.startswith("hub:"):
        _, dataset, *config = name.split(":")
        return hub_texts(dataset, config[0] if config else None)
    return read_texts(name)


def prepare(
    source: TextSource, stages: Stages, *, vocab_size: int, seq_len: int, workers: int = 1
) -> dict[str, Any]:
    """Gather, clean, split, train the tokenizer and write the shards; each once.

    Args:
        source: The text.
        stages: Remembers what is done; everything goes to its folder.
        vocab_size: Tokens of the tokenizer.
        seq_len: The held-out part must fill two windows of so many tokens.
        workers: Processes; 0 takes one for each core.

    Returns:
        What the report says of the data: the funnel, sizes, hashes.

    Raises:
        ValueError: When the corpus is empty, unreadable or too small.
    """
    folder = stages.folder
    workers = workers or min(available_cores(), MOST_WORKERS)
    settings = asdict(source)
    settings["corpus"], tokenizer_bytes = settings.pop("name"), settings.pop("tokenizer_bytes")
    cleaned = stages.once(
        "clean",
        settings,
        lambda: clean_text(read_source(source), source, folder, workers=workers),
    )
    tokenizer = stages.once(
        "tokenizer",
        {"train": cleaned["train_sha256"], "vocab_size": vocab_size, "bytes": tokenizer_bytes},
        lambda: _train_tokenizer(folder, vocab_size, tokenizer_bytes),
    )
    tokens = stages.once(
        "tokens",
        {"train": cleaned["train_sha256"], "tokenizer": tokenizer["sha256"]},
        lambda: _encode(cleaned, folder, seq_len, workers),
    )
    return {"clean": cleaned, "tokenizer": tokenizer, "tokens": tokens}


def load_prepared(folder: Path, record: dict[str, Any]) -> Prepared:
    """Open what `prepare` wrote into a folder, by the record that it returned.

    Raises:
        ValueError: When a file is missing, cut short or changed.
    """
    return Prepared(
        folder=folder,
        tokenizer=ByteBPE.load(folder / "tokenizer.json"),
        train=TokenShards(folder / "train"),
        held_out=TokenShards(folder / "held_out"),
        train_bytes=record["clean"]["train_bytes"],
        held_out_bytes=record["clean"]["held_out_bytes"],
    )


def _train_tokenizer(folder: Path, vocab_size: int, max_bytes: int) -> dict[str, Any]:
    def texts() -> Iterator[str]:
        size = 0
        for document in iterate_documents(folder / "train.jsonl"):
            if size >= max_bytes:
                return
            size += document.n_bytes
            yield document.text

    tokenizer = ByteBPE.train(texts(), vocab_size, (END_OF_TEXT,))
    tokenizer.save(folder / "tokenizer.json")
    return {"sha256": tokenizer.sha256, "vocab_size": tokenizer.vocab_size}


def _encode_block(tokenizer: ByteBPE, block: list[Document]) -> list[np.ndarray]:
    return tokenizer.encode_batch(document.text for document in block)


def _encode(cleaned: dict[str, Any], folder: Path, seq_len: int, workers: int) -> dict[str, Any]:
    tokenizer = ByteBPE.load(folder / "tokenizer.json")
    result: dict[str, Any] = {}
    with Workers(workers, tokenizer) as pool:
        for name in ("train", "held_out"):
            documents = iterate_documents(folder / f"{name}.jsonl")
            blocks = pool.map(_encode_block, text_blocks(documents, BLOCK_CHARACTERS))
            shards = write_shards(
                folder / name,
                chain.from_iterable(blocks),
                vocab_size=tokenizer.vocab_size,
                end_of_text=tokenizer.special_tokens[END_OF_TEXT],
                tokenizer_sha256=tokenizer.sha256,
                corpus_sha256=cleaned[f"{name}_sha256"],
            )
            result[name] = {
                "tokens": shards.n_tokens,
                "bytes_per_token": round(cleaned[f"{name}_bytes"] / shards.n_tokens, 3),
            }
    if result["held_out"]["tokens"] < 2 * seq_len + 2:
        raise ValueError(
            f"the held-out part has {result['held_out']['tokens']} tokens, too few for windows of "
            f"{seq_len}: name a larger corpus with --corpus"
        )
    return result
