"""The capstone's cleaning: from gathered text to two files, one document at a time."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmlib.capstone.presets import Corpus
from llmlib.core.processes.workers import Workers
from llmlib.data.cleaning.pipeline import Pipeline, Step
from llmlib.data.cleaning.report import FunnelStep
from llmlib.data.cleaning.rules.gopher import GopherQuality
from llmlib.data.cleaning.rules.repetition import GopherRepetition
from llmlib.data.cleaning.scale.parallel import BLOCK_CHARACTERS, ParallelPipeline
from llmlib.data.cleaning.steps import Readable, quality_step
from llmlib.data.corpora.document import (
    Document,
    corpus_sha256,
    document_blocks,
    iterate_documents,
    load_documents,
    save_documents,
)
from llmlib.data.deduplication.contamination.decontamination import EvaluationIndex, find_leaks
from llmlib.data.deduplication.exact import ExactDuplicates
from llmlib.data.deduplication.near.overlap import Overlapping
from llmlib.data.privacy.redaction import RedactStep
from llmlib.data.stream.splits import known_paragraphs, known_share, paragraphs_of, split_files

LEAK_WORDS = 13
"""Words in a row shared with a held-out document that make a leak (Brown et al. 2020)."""


def cleaning_steps(corpus: Corpus) -> list[Step]:
    """Return what every document of a corpus passes through.

    Documentation is judged by `QualityRules`: of the fixed corpus, Gopher's rules for web pages
    would drop three documents in four, because a docstring has few words.

    Args:
        corpus: Its `mask`, `kind` and `max_overlap` decide.

    Returns:
        Steps for a `Pipeline`.
    """
    steps: list[Step] = [Readable(), ExactDuplicates()]
    if corpus.mask:
        steps.append(RedactStep(corpus.mask))
    if corpus.kind == "web":
        steps += [GopherQuality(), GopherRepetition()]
    else:
        steps.append(quality_step())
    if corpus.max_overlap < 1:
        steps.append(Overlapping(corpus.max_overlap))
    return steps


def clean_text(
    documents: Iterable[Document], corpus: Corpus, folder: Path, *, workers: int = 1
) -> dict[str, Any]:
    """Clean a corpus, hold out whole modules, and find what of them leaks into the training part.

    Memory does not grow with the length of the texts, but for each document there are a hash (the
    search for duplicates) and a name (the split), about 400 bytes, and near-duplicates, where they
    are looked for, cost a hash for each word. The held-out part is held whole.

    Args:
        documents: The corpus, read once.
        corpus: What to do with it.
        folder: Gets `train.jsonl` and `held_out.jsonl`.
        workers: Processes; each holds some millions of characters. The files do not depend on it.

    Returns:
        What the report says: the funnel, the reasons, sizes and hashes.

    Raises:
        ValueError: When the source breaks off or nothing is left.
    """
    whole, with_leaks = folder / "clean.jsonl", folder / "with_leaks.jsonl"
    paths = {"train": folder / "train.jsonl", "held_out": folder / "held_out.jsonl"}
    steps = cleaning_steps(corpus)
    pipeline = Pipeline(steps) if workers == 1 else ParallelPipeline(steps, workers)
    save_documents(whole, pipeline.run(_with_modules(documents)))
    report = pipeline.report()
    if not report.complete:
        raise ValueError(f"the corpus {corpus.name!r} was not read to its end: {report.error}")
    if not report.kept_documents:
        raise ValueError(f"cleaning left nothing of {corpus.name!r}: {report.reasons()}")
    sizes = split_files(whole, with_leaks, paths["held_out"], corpus.held_out)
    whole.unlink()
    leaking, shared = _leaks(with_leaks, paths["held_out"], workers)
    reasons = report.reasons()
    if corpus.drop_leaks:
        save_documents(paths["train"], _without(with_leaks, leaking))
        with_leaks.unlink()
        reasons["training part: holds held-out text"] = len(leaking)
    else:
        with_leaks.rename(paths["train"])
    gathered, *steps = report.funnel()
    training = FunnelStep(name="training part", documents=sizes.train[0], bytes=sizes.train[1])
    parts, result = _measured(paths)
    funnel = [replace(gathered, name="gathered"), *steps, training]
    funnel += parts if corpus.drop_leaks else parts[1:]
    return {
        "funnel": [vars(step) for step in funnel],
        "dropped": reasons,
        "leaks": {"documents": len(leaking), "dropped": corpus.drop_leaks},
        "left_out": sizes.left_out,
        "shared_with_train": round(shared if corpus.drop_leaks else sizes.shared, 4),
        **result,
    }


def _with_modules(documents: Iterable[Document]) -> Iterator[Document]:
    """Let every document of a corpus without modules be split by itself."""
    for number, document in enumerate(documents):
        if "module" in document.meta:
            yield document
        else:
            module = f"{document.source}#{number}"
            yield Document(text=document.text, source=document.source, meta={"module": module})


def _leaks(train: Path, held_out: Path, workers: int) -> tuple[set[int], float]:
    """Find the training documents that share a long run of words with a held-out one.

    Returns:
        Their numbers, and the share of held-out bytes in paragraphs of all the others.
    """
    known = load_documents(held_out)
    index = EvaluationIndex.build((document.text for document in known), LEAK_WORDS, LEAK_WORDS)
    blocks = document_blocks(iterate_documents(train), BLOCK_CHARACTERS)
    leaking: set[int] = set()
    found: set[str] = set()
    start = 0
    with Workers(workers, (index, paragraphs_of(known))) as pool:
        for size, numbers, paragraphs in pool.map(_searched, blocks):
            leaking.update(start + number for number in numbers)
            found |= paragraphs
            start += size
    return leaking, known_share(known, found)


def _searched(
    known: tuple[EvaluationIndex, set[str]], block: list[Document]
) -> tuple[int, set[int], set[str]]:
    index, wanted = known
    leaking = {leak.document for leak in find_leaks(block, index)}
    others = (document for number, document in enumerate(block) if number not in leaking)
    return len(block), leaking, known_paragraphs(others, wanted)


def _without(path: Path, numbers: set[int]) -> Iterator[Document]:
    return (d for number, d in enumerate(iterate_documents(path)) if number not in numbers)


def _measured(paths: dict[str, Path]) -> tuple[list[FunnelStep], dict[str, Any]]:
    """Read the two files once more, for their sizes and hashes."""
    labels = {"train": "training part without leaks", "held_out": "held-out part"}
    steps, result = [], {}
    for name, path in paths.items():
        count = Counter[str]()
        result[f"{name}_sha256"] = corpus_sha256(_counted(path, count))
        if not count["documents"]:
            raise ValueError(
                f"every training document holds {LEAK_WORDS} words in a row of a held-out one: "
                "deduplicate the corpus before"
            )
        # A separator follows each document in the token stream.
        result[f"{name}_bytes"] = count["bytes"] + count["documents"]
        steps.append(FunnelStep(name=labels[name], **count))
    return steps, result


def _counted(path: Path, count: Counter[str]) -> Iterator[Document]:
    for document in iterate_documents(path):
        count["documents"] += 1
        count["bytes"] += document.n_bytes
        yield document
