"""How long each notebook took when its outputs were compared, from pytest's JUnit report."""

import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

MAX_NOTEBOOK_S, MAX_CHAPTER_S, MAX_TOTAL_S = 60.0, 300.0, 1200.0
MAX_MEAN_S = 30.0
"""A chapter of more than ten notebooks may take this for each of them."""


def notebook_seconds(report: Path) -> dict[str, float]:
    """Sum the cells' times of each notebook.

    Raises:
        ValueError: A cell is reported without a notebook's name.
    """
    seconds: dict[str, float] = defaultdict(float)
    for case in ET.parse(report).getroot().iter("testcase"):
        # nbval names a case by its notebook, dotted: `chapters.04_architecture.01_attention`.
        name = case.get("classname", "")
        if not name.startswith("chapters."):
            raise ValueError(f"{report.name} holds a case that is no notebook's: {name!r}")
        seconds[name] += float(case.get("time", "0"))
    return dict(seconds)


def too_slow(seconds: dict[str, float]) -> list[str]:
    """Return what exceeds the limits of a notebook, a chapter or all of them."""
    chapters: dict[str, list[float]] = defaultdict(list)
    for name, spent in seconds.items():
        chapters[name.split(".")[1]].append(spent)
    limits = [
        *((name, spent, MAX_NOTEBOOK_S) for name, spent in seconds.items()),
        *(
            (f"chapter {name}", sum(spent), max(MAX_CHAPTER_S, MAX_MEAN_S * len(spent)))
            for name, spent in chapters.items()
        ),
        ("all notebooks", sum(seconds.values()), MAX_TOTAL_S),
    ]
    return [
        f"{name}: {spent:.0f} s, at most {most:.0f} s"
        for name, spent, most in limits
        if spent > most
    ]
