"""Cleaning as a chain of small named steps that loses no document without saying why.

A step either judges a document (`Filter`) or rewrites it (`Transform`). `Pipeline` passes each
document through the steps in order and yields what survives, one at a time: memory holds one
document, the counts, a few examples, and what the steps themselves remember. The report can be
read at any moment, also after the run was interrupted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from llmlib.data.cleaning.report import PipelineReport, StepAccount
from llmlib.data.corpora.document import Document
from llmlib.data.corpora.dropped import Dropped
from llmlib.data.corpora.units import text_bytes

SOURCE = "source"
"""Name under which the report counts what never became a document."""


@runtime_checkable
class Filter(Protocol):
    """A step that says why a document should go, or None to keep it."""

    @property
    def name(self) -> str:
        """What the step looks at, for the report."""
        ...

    def reason(self, document: Document) -> str | None:
        """Say in a few words why the document should be dropped; None keeps it."""
        ...


@runtime_checkable
class Transform(Protocol):
    """A step that returns a document in another form."""

    @property
    def name(self) -> str:
        """What the step does, for the report."""
        ...

    def apply(self, document: Document) -> Document:
        """Return the document to go on with: the same object if nothing changes."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A step that remembers documents, and forgets them when a run starts."""

    def start(self) -> None:
        """Forget what earlier runs left."""
        ...


Step = Filter | Transform


@dataclass(frozen=True)
class TextFilter:
    """A filter made of a function of the text alone.

    Example:
        >>> step = TextFilter("length", lambda text: "short" if len(text) < 5 else None)
        >>> step.reason(Document(text="Hi.", source="x"))
        'short'
    """

    name: str
    judge: Callable[[str], str | None]

    def reason(self, document: Document) -> str | None:
        """Judge a document by its text."""
        return self.judge(document.text)


@dataclass(frozen=True)
class TextTransform:
    """A transform made of a function from text to text; source and meta stay."""

    name: str
    rewrite: Callable[[str], str]

    def apply(self, document: Document) -> Document:
        """Rewrite a document's text."""
        return document.with_text(self.rewrite(document.text))


class Pipeline:
    """Steps in order, and the account of the latest run.

    Args:
        on_error: What to do when a step raises on a document or the source breaks off. `"drop"`
            counts the document under the step with the error as its reason, and ends the run in
            good order where the source broke; `"raise"` raises a `RuntimeError` that names step
            and document. Either way the report stays readable and holds the error.
        examples: Dropped documents kept as examples for each step and reason.
        on_drop: Called with the step's name and every dropped document; the report alone keeps
            examples.

    Raises:
        ValueError: If two steps share a name.

    Example:
        >>> short = TextFilter("length", lambda text: "short" if len(text) < 5 else None)
        >>> pipeline = Pipeline([short])
        >>> corpus = [Document(text=text, source="x") for text in ("Hi.", "A sentence.")]
        >>> [document.text for document in pipeline.run(corpus)]
        ['A sentence.']
        >>> pipeline.report().reasons()
        {'length: short': 1}
    """

    def __init__(
        self,
        steps: Sequence[Step],
        *,
        on_error: Literal["drop", "raise"] = "drop",
        examples: int = 3,
        on_drop: Callable[[str, Dropped], None] | None = None,
    ) -> None:
        names = [SOURCE, *(step.name for step in steps)]
        if len(set(names)) < len(names):
            raise ValueError(f"steps need different names, and not {SOURCE!r}: {names[1:]}")
        self.steps = tuple(steps)
        # Asking a protocol costs as much as judging a short text: once a step, not once a document.
        self._rewriters: list[Callable[[Document], Document] | None] = [
            step.apply if isinstance(step, Transform) else None for step in self.steps
        ]
        self._judges: list[Callable[[Document], str | None] | None] = [
            step.reason if isinstance(step, Filter) else None for step in self.steps
        ]
        self.on_error = on_error
        self.examples = examples
        self.on_drop = on_drop
        self._report = self._blank()

    def report(self) -> PipelineReport:
        """Return a copy of the account of the latest run, which may still be going on."""
        return self._report.copy()

    def run(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass documents through the steps, one at a time.

        A new run starts a new report when its first document is asked for.

        Yields:
            The documents kept, in order, as the transforms left them.

        Raises:
            RuntimeError: If a step or the source fails and `on_error` is `"raise"`.
        """
        report = self._report = self._blank()
        for step in self.steps:
            if isinstance(step, Stateful):
                step.start()
        source = iter(documents)
        while True:
            try:
                document = next(source)
            except StopIteration:
                break
            except Exception as error:  # any reader may feed the pipeline; recorded, not hidden
                report.error = f"the source broke off: {_describe(error)}"
                if self.on_error == "raise":
                    raise RuntimeError(report.error) from error
                return
            if not isinstance(document, Document):
                stray = Document(text=str(document), source="unknown")
                size = text_bytes(stray.text)
                report.steps[0].enter(size)
                self._drop(report.steps[0], stray, "not a Document", size)
                continue
            kept = self._pass(document, report)
            if kept is not None:
                yield kept
        report.complete = True

    def _pass(self, document: Document, report: PipelineReport) -> Document | None:
        size = text_bytes(document.text)
        report.steps[0].enter(size)
        for step, rewrite, judge, account in zip(
            self.steps, self._rewriters, self._judges, report.steps[1:], strict=True
        ):
            account.enter(size)
            try:
                if rewrite is not None:
                    document = rewrite(document)
                    change = text_bytes(document.text) - size
                    account.bytes_added += change
                    size += change
                    continue
                assert judge is not None
                reason = judge(document)
            except Exception as error:  # one document must not end a run of millions
                reason = f"error: {_describe(error)}"
                if self.on_error == "raise":
                    report.error = f"step {step.name!r} on {document.source}: {_describe(error)}"
                    self._drop(account, document, reason, size)
                    raise RuntimeError(report.error) from error
            if reason is not None:
                self._drop(account, document, reason, size)
                return None
        report.kept_documents += 1
        report.kept_bytes += size
        return document

    def _drop(self, account: StepAccount, document: Document, reason: str, size: int) -> None:
        dropped = Dropped(document=document, reason=reason)
        account.drop(dropped, size, self.examples)
        if self.on_drop is not None:
            self.on_drop(account.name, dropped)

    def _blank(self) -> PipelineReport:
        return PipelineReport([StepAccount(SOURCE), *(StepAccount(s.name) for s in self.steps)])


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
