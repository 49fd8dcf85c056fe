"""What the capstone's cleaning is worth: equal tokens, the same held-out text.

A step that drops documents leaves fewer to read, so the same number of tokens passes over them more
often; the last step also takes an advantage away: text of which the held-out part is a copy.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from llmlib.data.cleaning.rules.quality_rules import QualityRules
from llmlib.data.corpora.document import Document, corpus_bytes, corpus_sha256
from llmlib.data.corpora.fixed import fixed_corpus
from llmlib.data.deduplication.contamination.decontamination import decontaminate
from llmlib.data.deduplication.exact import SPACING_ONLY, deduplicate_exact
from llmlib.data.deduplication.near.overlap import drop_overlapping
from llmlib.data.stream.packing import pack
from llmlib.data.stream.splits import split_by_module
from llmlib.data.tokenizers.bpe.byte_bpe import ByteBPE
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.short_training import (
    loss_on_text,
    random_rows,
    small_decoder,
    train_briefly,
    warmup_decay,
)

VOCAB_SIZE, LENGTH, BATCH, STEPS, PEAK_LR = 1024, 128, 16, 600, 4e-3
D_MODEL, N_LAYERS = 64, 2
STEPS_OF_CLEANING = ("gathered", "no near-duplicates", "no leaks")
"""Each name is the training text after more steps; the first is the text as it was gathered.

Before near-duplicates go, so do copies and what is hardly prose, two hundredths of the bytes."""


@dataclass(frozen=True)
class CleanedText:
    """The training text after each step, and one held-out text for all."""

    train: dict[str, Int[Tensor, " n"]]
    """Token ids by the name of the step."""
    train_bytes: dict[str, int]
    held_out: Int[Tensor, " m"]
    """Token ids of documents that passed every step, of modules no training text has."""
    bytes_per_token: float
    """Length of a held-out token, a separator a document included."""
    sha256: str
    """Hash of the held-out documents and of the last step's training documents."""


def cleaned_documents() -> tuple[dict[str, list[Document]], list[Document]]:
    """Clean the fixed corpus step by step; of held-out documents no module is in another part."""
    rules = QualityRules()
    gathered = fixed_corpus()
    unique, _ = deduplicate_exact(gathered, SPACING_ONLY)
    prose = [document for document in unique if rules.reason(document.text) is None]
    different, _ = drop_overlapping(prose)
    split = split_by_module(different)
    held_out_modules = {document.meta["module"] for document in split.held_out}
    without_leaks, _, _ = decontaminate(
        split.train, [document.text for document in split.held_out], 13, 13
    )
    corpora = [gathered, different, without_leaks]
    parts = {
        name: [d for d in documents if d.meta["module"] not in held_out_modules]
        for name, documents in zip(STEPS_OF_CLEANING, corpora, strict=True)
    }
    return parts, split.held_out


@functools.cache
def cleaned_text() -> CleanedText:
    """Cut the texts after all steps by the tokenizer that the last one trains."""
    parts, held_out = cleaned_documents()
    end, last = "<|endoftext|>", parts[STEPS_OF_CLEANING[-1]]
    bpe = ByteBPE.train((document.text for document in last), VOCAB_SIZE, (end,))

    def stream(documents: Sequence[Document]) -> Int[Tensor, " n"]:
        ids = bpe.encode_batch(document.text for document in documents)
        return torch.from_numpy(pack(ids, bpe.special_tokens[end]).tokens.astype(np.int64))

    measured = stream(held_out)
    return CleanedText(
        train={name: stream(documents) for name, documents in parts.items()},
        train_bytes={name: corpus_bytes(documents) for name, documents in parts.items()},
        held_out=measured,
        bytes_per_token=(corpus_bytes(held_out) + len(held_out)) / len(measured),
        sha256=corpus_sha256([*held_out, *last]),
    )


def measure(run: Run, *, steps: int = STEPS) -> Run:
    text = cleaned_text()
    tokens = text.train[run["after"]]
    model = small_decoder(
        VOCAB_SIZE, run["seed"], length=LENGTH, d_model=D_MODEL, n_layers=N_LAYERS
    )
    rows = random_rows(tokens, length=LENGTH, batch=BATCH, seed=run["seed"])
    train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    nats = loss_on_text(model.eval(), text.held_out, rows=512, length=LENGTH)
    return {
        "bits_per_byte": round(nats / math.log(2) / text.bytes_per_token, 4),
        "train_bytes": text.train_bytes[run["after"]],
        "epochs": round(steps * BATCH * LENGTH / len(tokens), 3),
        "tokens": steps * BATCH * LENGTH,
        "chance_bits_per_byte": round(math.log2(VOCAB_SIZE) / text.bytes_per_token, 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text.sha256,
    }


def _no_step_shows(runs: Runs) -> bool:
    pairs = (("no near-duplicates", "gathered"), ("no leaks", "no near-duplicates"),
             ("no leaks", "gathered"))  # fmt: skip
    found = [runs.difference("bits_per_byte", after=pair) for pair in pairs]
    return all(
        not change.shows_difference and abs(change.value) < 0.01 and change.within(0.04)
        for change in found
    )


def _every_step_takes_text_away(runs: Runs) -> bool:
    sizes = [{run["train_bytes"] for run in runs.where(after=name)} for name in STEPS_OF_CLEANING]
    (gathered,), (different,), (without_leaks,) = sizes
    return gathered > different > without_leaks


EXPERIMENT = Experiment(
    conditions={"after": STEPS_OF_CLEANING},
    seeds=(0, 1, 2),
    measure=measure,
    equal=("tokens", "text_sha256", "parameters", "chance_bits_per_byte"),
    depends=(
        "llmlib.data.cleaning.rules.quality_rules",
        "llmlib.data.deduplication.contamination.decontamination",
        "llmlib.data.deduplication.exact",
        "llmlib.data.deduplication.near.overlap",
    ),
    claims={
        "": {
            "no effect of a cleaning step is shown, means differ by less than 0.01 bits a byte and "
            "the intervals end within 0.04": _no_step_shows,
            "fewer tokens are read than any text has": lambda runs: all(
                run["epochs"] < 1 for run in runs
            ),
            "every step takes text away": _every_step_takes_text_away,
            "every run ends above one bit a byte and below chance": lambda runs: all(
                1 < run["bits_per_byte"] < run["chance_bits_per_byte"] for run in runs
            ),
        },
    },
)
