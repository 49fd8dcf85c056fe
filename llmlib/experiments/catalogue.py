"""Find experiments by name."""

import importlib
from functools import cache
from pathlib import Path

from llmlib.core.nearest import did_you_mean
from llmlib.experiments.experiment import Experiment

_HERE = Path(__file__).parent


@cache
def modules() -> dict[str, str]:
    """List the experiments of the book; see `declared_in`."""
    return declared_in(_HERE)


def declared_in(folder: Path) -> dict[str, str]:
    """List the modules of a folder's chapters that declare an `EXPERIMENT`, importing nothing.

    Returns:
        Dotted names by the experiment's, which is the last part.

    Raises:
        ValueError: If two are of one name, and so of one record.
    """
    found = {}
    for path in sorted(folder.glob("*/*.py")):
        if "\nEXPERIMENT = Experiment(" in path.read_text(encoding="utf-8"):
            if path.stem in found:
                raise ValueError(f"{path} and {found[path.stem]} share a record: rename one")
            found[path.stem] = f"{__package__}.{path.parent.name}.{path.stem}"
    return found


def find_experiment(name: str) -> Experiment:
    """Return the experiment of a name.

    Raises:
        KeyError: If there is none; the message names the nearest.
    """
    if name not in modules():
        raise KeyError(f"no experiment is called {name!r}{did_you_mean(name, modules())}")
    return importlib.import_module(modules()[name]).EXPERIMENT
