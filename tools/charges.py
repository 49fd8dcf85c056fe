"""To which chapter the time of a test is charged.

The first folder of its path that bears a chapter's name decides (`tests/data/...`,
`llmlib/data/...`, `tests/experiments/data/...`); else the exercise or the experiment that it is
about; else, for a comparison with another library, the chapter from which it imports most. What is
left, and only that, is the house's: core, teaching, tools, golden readings.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from project import ROOT

CHAPTERS = ("introduction", "scaling", "data", "architecture", "training", "utilization")
CHAPTERS += ("evaluation", "adaptation", "capstone")
"""As folders of llmlib, from the lowest floor to the highest."""
HOUSE, GATES = "house", "gates and browser"


def line_of(node: str, subjects: Mapping[str, str], root: Path = ROOT) -> str:
    """Return the line on which a test stands: a chapter, the gates or the house.

    Args:
        node: The test's id, `tests/scaling/test_flops.py::test_training[3]`.
        subjects: The chapters of the exercises and experiments, by name.
        root: The repository.
    """
    name, _, rest = node.partition("::")
    top, folder, *below = [*name.split("/")[:-1], "", ""]
    if top == "tests" and folder in ("gates", "book"):
        return GATES
    for part in (folder, *below):
        if part in CHAPTERS:
            return part
    if folder in ("exercises", "experiments") and (subject := subject_of(rest, subjects)):
        return subjects[subject]
    if folder == "parity":
        return mostly_imported(root / name) or HOUSE
    return HOUSE


def subject_of(rest: str, names: Iterable[str]) -> str | None:
    """Return the name with which a test's parameters begin, as in `test_a[softmax-1]`."""
    found = re.search(r"\[(.*)\]$", rest)
    case = found.group(1) if found else ""
    return next((n for n in names if re.match(rf"{re.escape(n)}(?:[-:]|$)", case)), None)


@cache
def mostly_imported(path: Path) -> str | None:
    """Return the chapter from which a file imports most often, the highest of those equal."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [a.name for node in nodes if isinstance(node, ast.Import) for a in node.names]
    floors = Counter(name.split(".")[1] for name in names if name.startswith("llmlib."))
    found = [chapter for chapter in CHAPTERS if chapter in floors]
    return max(found, key=lambda name: (floors[name], CHAPTERS.index(name)), default=None)


def floor_of(folder: str) -> str:
    """Return the chapter of a folder of notebooks: `02_scaling_laws` is about `scaling`.

    Raises:
        ValueError: The folder is no chapter's.
    """
    for chapter in CHAPTERS:
        if folder.partition("_")[2].startswith(chapter):
            return chapter
    raise ValueError(f"{folder} is no chapter's folder")


def subject_chapters() -> dict[str, str]:
    """Return the chapters of all exercises and experiments by their names."""
    from llmlib.experiments.catalogue import modules
    from llmlib.teaching.catalogue import entries

    found = {name: module.split(".")[-2] for name, module in modules().items()}
    return found | {entry.name: floor_of(entry.chapter) for entry in entries()}
