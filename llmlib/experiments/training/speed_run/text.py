"""The laptop capstone's text, split and tokens, with a part of the training side to look at."""

import functools
from dataclasses import dataclass

import numpy as np

from llmlib.capstone.prepare import load_prepared, prepare
from llmlib.capstone.presets import LAPTOP
from llmlib.capstone.stages import Stages
from llmlib.core.cache import cache_dir
from llmlib.data.corpora.document import iterate_documents
from llmlib.data.stream.packing import PackedTokens, TokenSource, pack
from llmlib.data.stream.splits import held_out_modules
from llmlib.experiments.training.speed_run.recipe import LENGTH, VOCAB_SIZE


@dataclass(frozen=True)
class SpeedText:
    """Streams of tokens that share no module, but for `whole`: `part` and `watched` together."""

    part: PackedTokens
    """What screening trains on."""
    watched: PackedTokens
    """Modules of the training side that screening measures on."""
    whole: TokenSource
    """The training side, for the confirmation."""
    held_out: TokenSource
    """Read by the confirmation alone."""
    sha256: str
    """Hash of the training side's documents."""


@functools.cache
def speed_text() -> SpeedText:
    """Prepare the text as the laptop preset does, once a machine, and cut the training side."""
    folder = cache_dir("speed_run")
    stages = Stages(folder, say=lambda _: None)
    record = prepare(LAPTOP.corpus, stages, vocab_size=VOCAB_SIZE, seq_len=LENGTH)
    prepared = load_prepared(folder, record)
    documents = list(iterate_documents(folder / "train.jsonl"))
    chosen = held_out_modules(documents, seed=1)
    begins = [*prepared.train.starts.tolist(), prepared.train.n_tokens]
    assert len(begins) == len(documents) + 1
    parts: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for document, begin, end in zip(documents, begins[:-1], begins[1:], strict=True):
        without_separator = prepared.train.read(begin, end - 1)
        parts[document.meta["module"] in chosen].append(without_separator)
    part, watched = (pack(parts[is_chosen], prepared.end_of_text) for is_chosen in (False, True))
    return SpeedText(
        part, watched, prepared.train, prepared.held_out, record["clean"]["train_sha256"]
    )
