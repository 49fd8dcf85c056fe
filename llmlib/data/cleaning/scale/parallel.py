"""A pipeline over several processes of one machine: the same documents, the same account."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from llmlib.core.processes.workers import Workers
from llmlib.data.cleaning.pipeline import SOURCE, Pipeline, Stateful, Step
from llmlib.data.cleaning.report import PipelineReport, StepAccount, merge_reports
from llmlib.data.corpora.document import Document, text_blocks

BLOCK_CHARACTERS = 1 << 20
"""Text for a process at a time: some tenths of a second of work, so that sending it is cheap."""


class ParallelPipeline:
    """Steps in order, those that remember nothing in other processes.

    What comes out and what the report says is what `Pipeline(steps)` gives, in the same order. A
    step that remembers documents sees all of them, in this process. For files on many machines
    there is `llmlib.data.clean_shards`.

    Args:
        steps: Those that remember nothing must survive `pickle`.

    Raises:
        ValueError: If two steps share a name.
    """

    def __init__(self, steps: Sequence[Step], workers: int, *, examples: int = 3) -> None:
        Pipeline(steps)  # refuses names that do not differ
        self.workers = workers
        self.examples = examples
        grouped = groupby(steps, key=lambda step: isinstance(step, Stateful))
        self._groups = [(remembers, tuple(group)) for remembers, group in grouped]
        self._parts = self._blank()

    def report(self) -> PipelineReport:
        """Return a copy of the account of the latest run, which may still be going on."""
        parts = [part.report() for part in self._parts]
        return PipelineReport(
            [parts[0].steps[0], *(step for part in parts[1:] for step in part.steps[1:])],
            kept_documents=parts[-1].kept_documents,
            kept_bytes=parts[-1].kept_bytes,
            complete=all(part.complete for part in parts),
            error=next((part.error for part in parts if part.error), None),
        )

    def run(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass documents through the steps.

        A new run starts a new report when its first document is asked for. An error of the source
        or the death of a process ends the run in good order, and the report holds it.

        The corpus is read two blocks of a million characters for each process ahead of what is
        yielded.
        """
        self._parts = self._blank()
        shared = [steps for _, steps in self._groups], self.examples
        with Workers(self.workers, shared) as workers:
            stream: Iterator[Document] = iter(documents)
            for part in self._parts:
                here = isinstance(part, Pipeline)
                stream = part.run(stream) if here else part.run(workers, stream)
            yield from stream

    def _blank(self) -> list["Pipeline | _Elsewhere"]:
        """Parts of a run; the first has no step and holds the source's count and error."""
        return [
            Pipeline([], examples=self.examples),
            *(
                Pipeline(steps, examples=self.examples)
                if remembers
                else _Elsewhere(number, steps, self.examples)
                for number, (remembers, steps) in enumerate(self._groups)
            ),
        ]


class _Elsewhere:
    """One group of steps in other processes, and its account."""

    def __init__(self, number: int, steps: Sequence[Step], examples: int) -> None:
        self.number = number
        self.examples = examples
        self._report = PipelineReport([StepAccount(n) for n in (SOURCE, *(s.name for s in steps))])

    def report(self) -> PipelineReport:
        return self._report.copy()

    def run(self, workers: Workers, documents: Iterator[Document]) -> Iterator[Document]:
        jobs = ((self.number, block) for block in text_blocks(documents, BLOCK_CHARACTERS))
        try:
            for kept, report in workers.map(_clean_block, jobs):
                self._report = merge_reports([self._report, report], self.examples)
                yield from kept
        except ChildProcessError as error:
            self._report.error = str(error)
            return
        self._report.complete = True


def _clean_block(
    shared: tuple[list[tuple[Step, ...]], int], job: tuple[int, list[Document]]
) -> tuple[list[Document], PipelineReport]:
    """Pass a block through one group of steps; runs in another process."""
    (groups, examples), (number, block) = shared, job
    pipeline = Pipeline(groups[number], examples=examples)
    return [*pipeline.run(block)], pipeline.report()
