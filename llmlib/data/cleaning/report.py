"""What became of every document: the account that a cleaning run keeps as it goes."""

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from llmlib.data.corpora.dropped import Dropped

EXCERPT = 200


@dataclass(frozen=True, kw_only=True)
class FunnelStep:
    """What is left of a corpus after a step: documents and UTF-8 bytes."""

    name: str
    documents: int
    bytes: int


@dataclass
class StepAccount:
    """What went into one step and what it did; losses are by reason."""

    name: str
    documents: int = 0
    bytes: int = 0
    bytes_added: int = 0
    """Change of size by a transforming step; negative where text went."""
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_bytes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[Dropped]] = field(default_factory=dict)
    """A few dropped documents by reason, their text cut after 200 characters."""

    def enter(self, size: int) -> None:
        """Count a document that reached the step."""
        self.documents += 1
        self.bytes += size

    def drop(self, dropped: Dropped, size: int, examples: int) -> None:
        """Count a document that the step drops, and keep it if its reason has too few examples."""
        self.dropped[dropped.reason] += 1
        self.dropped_bytes[dropped.reason] += size
        kept = self.examples.setdefault(dropped.reason, [])
        if len(kept) < examples:
            kept.append(_excerpt(dropped))

    @property
    def documents_left(self) -> int:
        """Documents that passed."""
        return self.documents - self.dropped.total()

    @property
    def bytes_left(self) -> int:
        """Bytes that passed, after any change by the step."""
        return self.bytes - self.dropped_bytes.total() + self.bytes_added


@dataclass
class PipelineReport:
    """The account of a run, step by step; its first entry is the source."""

    steps: list[StepAccount]
    """One account a step, in order, after that of the source."""
    kept_documents: int = 0
    kept_bytes: int = 0
    complete: bool = False
    """Whether the source was read to its end."""
    error: str | None = None
    """What broke the run off, if something did."""

    def copy(self) -> "PipelineReport":
        """Return a copy that the running pipeline no longer changes."""
        return copy.deepcopy(self)

    def reasons(self) -> dict[str, int]:
        """Count the dropped documents as `step: reason`, the commonest of a step first."""
        return {
            f"{step.name}: {reason}": number
            for step in self.steps
            for reason, number in step.dropped.most_common()
        }

    def funnel(self) -> list[FunnelStep]:
        """List what is left before the first step and after each."""
        return [
            FunnelStep(name=step.name, documents=step.documents_left, bytes=step.bytes_left)
            for step in self.steps
        ]

    def table(self) -> str:
        """Lay the report out for people: a line a step and a reason, then what is left."""
        lines = [f"{'step':<34}{'documents':>11}{'bytes':>15}"]
        read = self.steps[0]
        lines.append(f"{'read':<34}{read.documents:>11,}{read.bytes:>15,}")
        for step in self.steps:
            if step.bytes_added:
                lines.append(f"{step.name:<34}{'':>11}{step.bytes_added:>+15,}")
            for reason, number in step.dropped.most_common():
                what = f"- {step.name}: {reason}"
                lost = step.dropped_bytes[reason]
                lines.append(f"{what[:33]:<34}{-number:>11,}{-lost:>15,}")
        lines.append(f"{'kept':<34}{self.kept_documents:>11,}{self.kept_bytes:>15,}")
        if self.error:
            lines.append(f"broken off: {self.error}")
        elif not self.complete:
            lines.append("not complete: the source was not read to its end")
        elif not read.documents:
            lines.append("the source held no documents")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts for JSON, without the examples, which quote the corpus."""
        steps = [
            {
                "name": step.name,
                "documents": step.documents,
                "bytes": step.bytes,
                "bytes_added": step.bytes_added,
                "dropped": dict(step.dropped.most_common()),
                "dropped_bytes": dict(step.dropped_bytes.most_common()),
            }
            for step in self.steps
        ]
        kept = {"documents": self.kept_documents, "bytes": self.kept_bytes}
        return {"steps": steps, "kept": kept, "complete": self.complete, "error": self.error}


def merge_reports(reports: Iterable[PipelineReport], examples: int = 3) -> PipelineReport:
    """Add up the reports of one pipeline run over several parts of a corpus.

    Raises:
        ValueError: If there is none, or their steps differ.
    """
    parts = list(reports)
    if not parts:
        raise ValueError("there is no report to merge")
    names = [step.name for step in parts[0].steps]
    merged = PipelineReport([StepAccount(name) for name in names], complete=True)
    for part in parts:
        if [step.name for step in part.steps] != names:
            raise ValueError(f"reports of different pipelines: {names} and {part.steps}")
        merged.kept_documents += part.kept_documents
        merged.kept_bytes += part.kept_bytes
        merged.complete &= part.complete
        merged.error = merged.error or part.error
        for total, step in zip(merged.steps, part.steps, strict=True):
            total.documents += step.documents
            total.bytes += step.bytes
            total.bytes_added += step.bytes_added
            total.dropped.update(step.dropped)
            total.dropped_bytes.update(step.dropped_bytes)
            for reason, dropped in step.examples.items():
                kept = total.examples.setdefault(reason, [])
                kept += dropped[: max(0, examples - len(kept))]
    return merged


def _excerpt(dropped: Dropped) -> Dropped:
    document = dropped.document
    return replace(dropped, document=document.with_text(document.text[:EXCERPT]))
