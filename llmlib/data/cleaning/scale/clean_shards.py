"""The same cleaning over many files, processes and machines, with the same output.

Steps that look at one document alone need no one else's: each task cleans one file. Finding
duplicates needs all documents at once, so it is done on 16 bytes of each in one process, between
two passes over the files. The engine is datatrove (Hugging Face; it made FineWeb): its tasks are
files, a task that is done is not run again, and the same pipeline runs on this machine, on a Slurm
cluster or on Ray by changing the executor. It weighs 17 MB where Ray alone weighs 79 MB, needs no
server, and its unit is the document, as it is here; what it does not do is shuffle data between
machines, which is why duplicates are found from small digests.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llmlib.core.files import atomic_write
from llmlib.data.cleaning.pipeline import Pipeline, Stateful, Step
from llmlib.data.cleaning.report import PipelineReport, StepAccount, merge_reports
from llmlib.data.corpora.document import Document, load_documents, save_documents
from llmlib.data.corpora.dropped import Dropped
from llmlib.data.corpora.files import ReadReport, read_files
from llmlib.data.deduplication.exact import (
    DIGEST_BYTES,
    SPACING_ONLY,
    first_equal,
    matching_digest,
)

_DUPLICATES = "exact duplicates"

ShardTask = Callable[..., Iterable[Any]]
"""A step of a datatrove pipeline: `task(data, rank, world_size)` cleans file number `rank`."""


@dataclass(frozen=True)
class ScaledRun:
    """What a run over many files made."""

    paths: list[Path]
    """The cleaned files, one for each input and in the same order."""
    report: PipelineReport
    """The account of all files together; its last step is the search for duplicates."""
    problems: Counter[str]
    """What could not be read, by reason."""

    def documents(self) -> Iterator[Document]:
        """Read the cleaned documents, in order of the inputs."""
        for path in self.paths:
            yield from load_documents(path)


def clean_shards(
    inputs: Sequence[str | Path], folder: str | Path, steps: Sequence[Step], *, workers: int = 2
) -> ScaledRun:
    """Clean files in parallel on this machine and drop exact duplicates across all of them.

    An interrupted run goes on when called again: files that are done are not cleaned again. One
    task holds the kept documents of one file in memory, the search for duplicates 17 bytes of
    each document.

    Args:
        inputs: Files that `read_files` can read.
        folder: Holds one run.
        steps: Steps that judge or rewrite each document by itself. They are sent to other
            processes, so they hold no open files.

    Returns:
        The cleaned files and the account. Documents and counts are those of a `Pipeline` over the
        files in turn, followed by `ExactDuplicates`, whatever the number of workers.

    Raises:
        ImportError: If the `data` extra is not installed.
        ValueError: As `cleaning_tasks`.
    """
    try:
        from datatrove.executor.local import LocalPipelineExecutor
    except ImportError as error:
        raise ImportError(
            "cleaning over many processes needs the package `datatrove`: install this project "
            "with its `data` extra"
        ) from error
    clean_task, drop_task = cleaning_tasks(inputs, folder, steps)
    folder = Path(folder)

    def run(task: ShardTask, name: str) -> None:
        executor = LocalPipelineExecutor(
            pipeline=[task],
            tasks=len(inputs),
            workers=min(workers, len(inputs)),
            logging_dir=str(folder / "logs" / name),
        )
        executor.run()

    run(clean_task, "clean")
    mark_duplicates(folder, len(inputs))
    run(drop_task, "duplicates")
    return collect_shards(folder, len(inputs))


def cleaning_tasks(
    inputs: Sequence[str | Path], folder: str | Path, steps: Sequence[Step]
) -> tuple[ShardTask, ShardTask]:
    """Prepare the two passes over the files as steps of a datatrove pipeline.

    On a cluster, give each to an executor of its own, such as `SlurmPipelineExecutor`, with as many
    tasks as inputs and a folder that all machines see, and call `mark_duplicates` between them.

    Returns:
        The task that cleans file number `rank`, and the one that takes duplicates out of it.

    Raises:
        ValueError: If a step remembers documents, there is no input, or the folder holds a run
            over other files or steps.
    """
    paths = [Path(path).resolve() for path in inputs]
    folder = Path(folder).resolve()
    if not paths:
        raise ValueError("there is nothing to clean: name at least one file")
    if remembering := [step.name for step in steps if isinstance(step, Stateful)]:
        raise ValueError(
            f"steps {remembering} remember documents, and a task sees only its own file: leave "
            "them out. Exact duplicates are dropped across files anyway."
        )
    run = {
        "inputs": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths],
        "steps": [step.name for step in steps],
    }
    manifest = folder / "run.json"
    if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8")) != run:
        raise ValueError(f"{folder} holds a run over other files or steps; name another folder")
    atomic_write(manifest, json.dumps(run, indent=1) + "\n")
    clean = partial(_clean_file, inputs=paths, folder=folder, steps=tuple(steps))
    return clean, partial(_drop_duplicates, folder=folder)


def mark_duplicates(folder: str | Path, n_files: int) -> int:
    """Find documents that are equal up to white space, over all files after the first pass.

    Of equal documents the first of the first file stays.

    Returns:
        Number of duplicates.
    """
    folder = Path(folder)
    digests = [_part(folder, number, "digests").read_bytes() for number in range(n_files)]
    # Of equal width, strings of bytes are equal where the digests are, final zeros or not.
    together = np.frombuffer(b"".join(digests), dtype=f"S{DIGEST_BYTES}")
    keep = (first_equal(together) == np.arange(len(together))).astype(np.uint8)
    ends = np.cumsum([len(part) // DIGEST_BYTES for part in digests])
    for number, part in enumerate(np.split(keep, ends[:-1])):
        atomic_write(_part(folder, number, "keep"), part.tobytes())
    return int((keep == 0).sum())


def collect_shards(folder: str | Path, n_files: int) -> ScaledRun:
    """Put the accounts of all files together, after both passes.

    Raises:
        ValueError: If a file is not done yet.
    """
    folder = Path(folder)
    paths = [_part(folder, number, "jsonl") for number in range(n_files)]
    if missing := [path.name for path in paths if not path.exists()]:
        raise ValueError(f"{len(missing)} files are not done, {missing[0]} first: run again")
    reports, problems = [], Counter()
    for number in range(n_files):
        account = json.loads(_part(folder, number, "report.json").read_text(encoding="utf-8"))
        problems.update(account.pop("problems"))
        reports.append(_report_of(account))
    return ScaledRun(paths, merge_reports(reports), problems)


def _part(folder: Path, number: int, ending: str) -> Path:
    return folder / f"part-{number:05}.{ending}"


def _clean_file(
    data: object,
    rank: int,
    world_size: int,
    *,
    inputs: Sequence[Path],
    folder: Path,
    steps: Sequence[Step],
) -> Iterator[Document]:
    """Clean one file, and write what is kept, its digests and the account; yields nothing."""
    del data, world_size
    read = ReadReport()
    pipeline = Pipeline(steps)
    kept = [*pipeline.run(read_files(inputs[rank], on_error="skip", report=read))]
    save_documents(_part(folder, rank, "cleaned"), kept)
    digests = (matching_digest(document.text, SPACING_ONLY) for document in kept)
    atomic_write(_part(folder, rank, "digests"), b"".join(digests))
    report = pipeline.report()
    account = {**vars(report), "steps": [_plain(step) for step in report.steps]}
    account["problems"] = read.reasons
    atomic_write(_part(folder, rank, "account.json"), json.dumps(account) + "\n")
    yield from ()


def _drop_duplicates(
    data: object, rank: int, world_size: int, *, folder: Path
) -> Iterator[Document]:
    """Write one file again without duplicates, and complete its account; yields nothing."""
    del data, world_size
    documents = load_documents(_part(folder, rank, "cleaned"))
    keep = np.frombuffer(_part(folder, rank, "keep").read_bytes(), dtype=np.uint8)
    step = StepAccount(_DUPLICATES)
    kept = []
    for document, stays in zip(documents, keep, strict=True):
        step.enter(document.n_bytes)
        if stays:
            kept.append(document)
        else:
            step.drop(Dropped(document=document, reason="duplicate"), document.n_bytes, 3)
    save_documents(_part(folder, rank, "jsonl"), kept)
    account = json.loads(_part(folder, rank, "account.json").read_text(encoding="utf-8"))
    account["steps"].append(_plain(step))
    account["kept_documents"], account["kept_bytes"] = step.documents_left, step.bytes_left
    atomic_write(_part(folder, rank, "report.json"), json.dumps(account) + "\n")
    yield from ()


def _plain(step: StepAccount) -> dict[str, Any]:
    """Make JSON of a step's account; `asdict` cannot, because it breaks counters."""
    examples = {reason: [asdict(d) for d in dropped] for reason, dropped in step.examples.items()}
    return {**vars(step), "examples": examples}


def _report_of(account: dict[str, Any]) -> PipelineReport:
    """Make a report of the account of one file."""
    steps = []
    for row in account["steps"]:
        examples = {
            reason: [Dropped(document=Document(**d["document"]), reason=reason) for d in dropped]
            for reason, dropped in row["examples"].items()
        }
        counts = {name: Counter(row[name]) for name in ("dropped", "dropped_bytes")}
        steps.append(StepAccount(**{**row, **counts, "examples": examples}))
    return PipelineReport(**{**account, "steps": steps})
