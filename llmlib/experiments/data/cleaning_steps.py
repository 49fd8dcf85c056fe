"""What the capstone's cleaning is worth: equal tokens, the same held-out text.

`python -m llmlib.experiments cleaning_steps` makes the runs that `data/results` still lacks. A step
that drops documents leaves fewer to read, so the same number of tokens passes over them more often;
the last step also takes an advantage away: text of which the held-out part is a copy.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from llmlib.data import ByteBPE, Document, corpus_sha256, deduplicate, fixed_corpus
from llmlib.data.cleaning import QualityRules
from llmlib.data.deduplication import decontaminate
from llmlib.data.overlap import drop_overlapping
from llmlib.data.splits import split_by_module
from llmlib.experiments.experiment import Run
from llmlib.experiments.short_runs import make_missing_runs
from llmlib.experiments.short_training import (
    mean_loss,
    random_rows,
    small_decoder,
    train_briefly,
    warmup_decay,
)

VOCAB_SIZE, LENGTH, BATCH, STEPS, PEAK_LR = 1024, 128, 16, 600, 4e-3
D_MODEL, N_LAYERS = 64, 2
SEEDS = (0, 1, 2)
STEPS_OF_CLEANING = ("gathered", "no near-duplicates", "no leaks")
"""Each name is the training text after more steps; the first is the text as it was gathered.

Before near-duplicates go, so do copies and what is hardly prose, two hundredths of the bytes."""


@dataclass(frozen=True)
class CleanedText:
    """The training text after each step, and one held-out text for all.

    Attributes:
        train: Token ids by the name of the step.
        train_bytes: UTF-8 bytes by the name of the step.
        held_out: Token ids of documents that passed every step, of modules no training text has.
        bytes_per_token: Length of a held-out token, a separator a document included.
        sha256: Hash of the held-out documents and of the last step's training documents.
    """

    train: dict[str, Int[Tensor, " n"]]
    train_bytes: dict[str, int]
    held_out: Int[Tensor, " m"]
    bytes_per_token: float
    sha256: str


@functools.cache
def cleaned_text() -> CleanedText:
    """Clean the fixed corpus step by step.

    Returns:
        The texts, the same on every machine; the tokenizer is that of the last step's text.
    """
    rules = QualityRules()
    gathered = fixed_corpus()
    unique, _ = deduplicate(gathered)
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
    end = "<|endoftext|>"
    last = parts[STEPS_OF_CLEANING[-1]]
    bpe = ByteBPE.train((document.text for document in last), VOCAB_SIZE, (end,))

    def stream(documents: Sequence[Document]) -> Int[Tensor, " n"]:
        separator = [bpe.special_tokens[end]]
        arrays = bpe.encode_batch([document.text for document in documents])
        return torch.tensor([i for ids in arrays for i in (*ids.tolist(), *separator)])

    held_out = stream(split.held_out)
    n_bytes = sum(document.n_bytes + 1 for document in split.held_out)
    return CleanedText(
        train={name: stream(documents) for name, documents in parts.items()},
        train_bytes={name: sum(d.n_bytes for d in documents) for name, documents in parts.items()},
        held_out=held_out,
        bytes_per_token=n_bytes / len(held_out),
        sha256=corpus_sha256([*split.held_out, *last]),
    )


def perform(run: Run, *, steps: int = STEPS) -> Run:
    """Train on the text after one step, from one seed, and measure on the held-out text.

    Args:
        run: `after` (one of `STEPS_OF_CLEANING`) and `seed`.
        steps: Number of updates.

    Returns:
        Held-out bits per byte, the size of the training text and how often it was read.
    """
    text = cleaned_text()
    tokens = text.train[run["after"]]
    model = small_decoder(
        VOCAB_SIZE, run["seed"], length=LENGTH, d_model=D_MODEL, n_layers=N_LAYERS
    )
    rows = random_rows(tokens, length=LENGTH, batch=BATCH, seed=run["seed"])
    train_briefly(model, rows, lr=warmup_decay(PEAK_LR, steps), steps=steps)
    nats = mean_loss(model.eval(), text.held_out, rows=512, length=LENGTH)
    return {
        "bits_per_byte": round(nats / math.log(2) / text.bytes_per_token, 4),
        "train_bytes": text.train_bytes[run["after"]],
        "epochs": round(steps * BATCH * LENGTH / len(tokens), 3),
        "tokens": steps * BATCH * LENGTH,
        "chance_bits_per_byte": round(math.log2(VOCAB_SIZE) / text.bytes_per_token, 4),
        "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text.sha256,
    }


def plan() -> Iterator[Run]:
    """Yield the runs of the experiment.

    Yields:
        What identifies each run.
    """
    for seed in SEEDS:
        for after in STEPS_OF_CLEANING:
            yield {"after": after, "seed": seed}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the missing runs.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0 when the record is complete.
    """
    return make_missing_runs("cleaning_steps", plan(), perform, __doc__, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
