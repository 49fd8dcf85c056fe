"""The capstone's cleaning: from gathered text to two files, one document at a time."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmlib.capstone.presets import TextSource
from llmlib.data.cleaning.pipeline import Pipeline, Step
from llmlib.data.cleaning.report import FunnelStep
from llmlib.data.cleaning.rules.gopher_quality import GopherQuality
from llmlib.data.cleaning.rules.gopher_repetition import GopherRepetition
from llmlib.data.cleaning.scale.parallel import ParallelPipeline
from llmlib.data.cleaning.steps import Readable, quality_step
from llmlib.data.corpora.document import (
    Document,
    iterate_documents,
    load_documents,
    save_documents,
)
from llmlib.data.deduplication.contamination.decontamination import decontaminate_file
from llmlib.data.deduplication.exact import ExactDuplicates
from llmlib.data.deduplication.near.overlap import Overlapping
from llmlib.data.privacy.redaction import RedactStep
from llmlib.data.stream.splits import corpus_size, shared_share, split_files, with_modules

LEAK_WORDS = 13
"""Words in a row shared with a held-out document that make a leak (Brown et al. 2020)."""


def cleaning_steps(source: TextSource) -> list[Step]:
    """Return what every document of a source passes through in a `Pipeline`.

    Documentation is judged by `QualityRules`: of the fixed corpus, Gopher's rules for web pages
    would drop three documents in four, because a docstring has few words.
    """
    steps: list[Step] = [Readable(), ExactDuplicates()]
    if source.mask:
        steps.append(RedactStep(source.mask))
    if source.kind == "web":
        steps += [GopherQuality(), GopherRepetition()]
    else:
        steps.append(quality_step())
    if source.max_overlap < 1:
        steps.append(Overlapping(source.max_overlap))
    return steps


def clean_text(
    documents: Iterable[Document], source: TextSource, folder: Path, *, workers: int = 1
) -> dict[str, Any]:
    """Clean a corpus, hold out whole modules, and find what of them leaks into the training part.

    Memory does not grow with the length of the texts, but for each document there are a hash (the
    search for duplicates) and a name (the split), about 400 bytes, and near-duplicates, where they
    are looked for, cost a hash for each word. The held-out part is held whole.

    Args:
        documents: The corpus, read once.
        source: Which steps it passes and what is held out.
        folder: Gets `train.jsonl` and `held_out.jsonl`.
        workers: Processes; each holds some millions of characters. The files do not depend on it.

    Returns:
        What the report says: the funnel, the reasons, sizes and hashes.

    Raises:
        ValueError: When the source breaks off or nothing is left.
    """
    whole, with_leaks = folder / "clean.jsonl", folder / "with_leaks.jsonl"
    train, held_out = folder / "train.jsonl", folder / "held_out.jsonl"
    steps = cleaning_steps(source)
    pipeline = Pipeline(steps) if workers == 1 else ParallelPipeline(steps, workers)
    save_documents(whole, pipeline.run(with_modules(documents)))
    report = pipeline.report()
    if not report.complete:
        raise ValueError(f"the corpus {source.name!r} was not read to its end: {report.error}")
    if not report.kept_documents:
        raise ValueError(f"cleaning left nothing of {source.name!r}: {report.reasons()}")
    sizes = split_files(whole, with_leaks, held_out, source.held_out, workers=workers)
    whole.unlink()
    known = load_documents(held_out)
    leaks = decontaminate_file(
        with_leaks, train, (document.text for document in known), LEAK_WORDS, LEAK_WORDS,
        workers=workers,
    )  # fmt: skip
    gathered, *after = report.funnel()
    training = FunnelStep(name="training part", documents=sizes.train[0], bytes=sizes.train[1])
    funnel = [replace(gathered, name="gathered"), *after, training]
    reasons, shared = report.reasons(), sizes.shared
    if source.drop_leaks:
        with_leaks.unlink()
        reasons["training part: holds held-out text"] = len(leaks)
        shared = shared_share(known, iterate_documents(train), workers=workers)
    else:
        with_leaks.replace(train)
    parts = {"train": corpus_size(train), "held_out": corpus_size(held_out)}
    labels = {"train": "training part without leaks", "held_out": "held-out part"}
    if not parts["train"].documents:
        raise ValueError(
            f"every training document holds {LEAK_WORDS} words in a row of a held-out one: "
            "deduplicate the corpus before"
        )
    funnel += [
        FunnelStep(name=labels[name], documents=part.documents, bytes=part.bytes)
        for name, part in parts.items()
        if source.drop_leaks or name != "train"
    ]
    return {
        "funnel": [vars(step) for step in funnel],
        "dropped": reasons,
        "leaks": {"documents": len(leaks), "dropped": source.drop_leaks},
        "left_out": sizes.left_out,
        "shared_with_train": round(shared, 4),
        **{f"{name}_sha256": part.sha256 for name, part in parts.items()},
        # A separator follows each document in the token stream.
        **{f"{name}_bytes": part.bytes + part.documents for name, part in parts.items()},
    }
