"""The capstone's first half: from gathered text to a tokenizer and token shards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlib.capstone.presets import Corpus, Preset
from llmlib.capstone.stages import Stages
from llmlib.data import (
    ByteBPE,
    Document,
    TokenShards,
    corpus_sha256,
    fixed_corpus,
    hub_texts,
    load_documents,
    pydocs,
    read_texts,
    save_documents,
    write_shards,
)
from llmlib.data.cleaning import FunnelStep, clean
from llmlib.data.corpora.document import corpus_bytes
from llmlib.data.overlap import drop_overlapping
from llmlib.data.splits import split_by_module

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What training and evaluation read.

    Attributes:
        folder: Holds `train.jsonl` and `held_out.jsonl`, the cleaned texts.
        tokenizer: Trained on the training part.
        train: Token stream of the training part.
        held_out: Token stream of the held-out part.
        train_bytes: UTF-8 bytes of the training part, a separator a document included.
        held_out_bytes: The same of the held-out part.
    """

    folder: Path
    tokenizer: ByteBPE
    train: TokenShards
    held_out: TokenShards
    train_bytes: int
    held_out_bytes: int

    @property
    def end_of_text(self) -> int:
        """Id of the token that ends each document."""
        return self.tokenizer.special_tokens[END_OF_TEXT]


def gather(corpus: Corpus) -> Iterator[Document]:
    """Yield the documents of a corpus, up to its size.

    Args:
        corpus: Which corpus, and how much of it.

    Yields:
        Documents in the source's order.

    Raises:
        ValueError: When the corpus cannot be read or holds no text.
    """
    size = 0
    for document in _source(corpus.name):
        if corpus.max_bytes and size >= corpus.max_bytes:
            return
        size += document.n_bytes
        yield document
    if size == 0:
        raise ValueError(f"the corpus {corpus.name!r} holds no text: name another with --corpus")


def _source(name: str) -> Iterable[Document]:
    if name == "fixed":
        return fixed_corpus()
    if name == "environment":
        return pydocs()
    if name.startswith("hub:"):
        _, dataset, *config = name.split(":")
        return hub_texts(dataset, config[0] if config else None)
    return read_texts(name)


def prepare(preset: Preset, folder: Path, stages: Stages) -> dict[str, Any]:
    """Gather, clean, split, train the tokenizer and write the shards; each once.

    Args:
        preset: The run's preset.
        folder: Where everything goes.
        stages: Remembers what is done.

    Returns:
        What the report says of the data: the funnel, sizes, hashes.

    Raises:
        ValueError: When the corpus is empty, unreadable or too small for the preset.
    """
    corpus, vocab_size = preset.corpus, preset.model.vocab_size
    settings = {
        "corpus": corpus.name,
        "max_bytes": corpus.max_bytes,
        "held_out": corpus.held_out,
        "max_overlap": corpus.max_overlap,
    }
    cleaned = stages.once("clean", settings, lambda: _clean(corpus, folder))
    tokenizer = stages.once(
        "tokenizer",
        {
            "train": cleaned["train_sha256"],
            "vocab_size": vocab_size,
            "bytes": corpus.tokenizer_bytes,
        },
        lambda: _train_tokenizer(corpus, vocab_size, folder),
    )
    tokens = stages.once(
        "tokens",
        {"train": cleaned["train_sha256"], "tokenizer": tokenizer["sha256"]},
        lambda: _encode(preset, folder),
    )
    return {"clean": cleaned, "tokenizer": tokenizer, "tokens": tokens}


def load_prepared(folder: Path, record: dict[str, Any]) -> Prepared:
    """Open what `prepare` wrote.

    Args:
        folder: The same folder.
        record: What `prepare` returned.

    Returns:
        Tokenizer and token streams.

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


def _clean(corpus: Corpus, folder: Path) -> dict[str, Any]:
    documents = [_with_module(number, d) for number, d in enumerate(gather(corpus))]
    cleaned = clean(documents)
    funnel, reasons = list(cleaned.funnel), cleaned.reasons()
    kept = cleaned.documents
    if corpus.max_overlap < 1:
        kept, dropped = drop_overlapping(kept, corpus.max_overlap)
        funnel.append(_step("near-duplicates dropped", kept))
        reasons["near-duplicate"] = len(dropped)
    split = split_by_module(kept, corpus.held_out)
    funnel += [_step("training part", split.train), _step("held-out part", split.held_out)]
    result: dict[str, Any] = {
        "funnel": [vars(step) for step in funnel],
        "dropped": reasons,
        "shared_with_train": round(split.shared, 4),
    }
    for name, part in (("train", split.train), ("held_out", split.held_out)):
        save_documents(folder / f"{name}.jsonl", part)
        result[f"{name}_sha256"] = corpus_sha256(part)
        result[f"{name}_bytes"] = corpus_bytes(part) + len(part)  # a separator a document
    return result


def _with_module(number: int, document: Document) -> Document:
    """Let every document of a corpus without modules be split by itself."""
    if "module" in document.meta:
        return document
    module = f"{document.source}#{number}"
    return Document(text=document.text, source=document.source, meta={"module": module})


def _step(name: str, documents: list[Document]) -> FunnelStep:
    return FunnelStep(name=name, documents=len(documents), bytes=corpus_bytes(documents))


def _train_tokenizer(corpus: Corpus, vocab_size: int, folder: Path) -> dict[str, Any]:
    def texts() -> Iterator[str]:
        size = 0
        for document in load_documents(folder / "train.jsonl"):
            if size >= corpus.tokenizer_bytes:
                return
            size += document.n_bytes
            yield document.text

    tokenizer = ByteBPE.train(texts(), vocab_size, (END_OF_TEXT,))
    tokenizer.save(folder / "tokenizer.json")
    return {"sha256": tokenizer.sha256, "vocab_size": tokenizer.vocab_size}


def _encode(preset: Preset, folder: Path) -> dict[str, Any]:
    tokenizer = ByteBPE.load(folder / "tokenizer.json")
    result: dict[str, Any] = {}
    for name in ("train", "held_out"):
        documents = load_documents(folder / f"{name}.jsonl")
        shards = write_shards(
            folder / name,
            tokenizer.encode_batch([document.text for document in documents]),
            vocab_size=tokenizer.vocab_size,
            end_of_text=tokenizer.special_tokens[END_OF_TEXT],
            tokenizer_sha256=tokenizer.sha256,
            corpus_sha256=corpus_sha256(documents),
        )
        n_bytes = corpus_bytes(documents) + len(documents)
        result[name] = {
            "tokens": shards.n_tokens,
            "bytes_per_token": round(n_bytes / shards.n_tokens, 3),
        }
    if result["held_out"]["tokens"] < 2 * preset.seq_len + 2:
        raise ValueError(
            f"the held-out part has {result['held_out']['tokens']} tokens, too few for windows of "
            f"{preset.seq_len}: name a larger corpus with --corpus"
        )
    return result
