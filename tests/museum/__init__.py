"""The museum of bugs: faults that known projects shipped, planted again and found."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from museum.exhibit import Exhibit

ROOMS = ("data", "architecture", "training", "parallelism", "utilization", "house")
"""One module `room_NAME.py` each, in the order of the chapters."""


def rooms() -> Iterator[tuple[str, "list[Exhibit]"]]:
    """Yield each room's name and its exhibits, in the order in which they stand in its module."""
    for name in ROOMS:
        if (Path(__file__).parent / f"room_{name}.py").is_file():
            yield name, import_module(f"museum.room_{name}").EXHIBITS
