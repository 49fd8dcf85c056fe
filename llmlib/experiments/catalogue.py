"""Find experiments by name."""

import difflib
import importlib
from functools import cache
from pathlib import Path

from llmlib.experiments.experiment import Experiment

_HERE = Path(__file__).parent


@cache
def modules() -> dict[str, str]:
    """List the experiments without importing them.

    Returns:
        Dotted names of the modules that declare an `EXPERIMENT`, by the experiment's name.

    Raises:
        ValueError: If two are of one name, and so of one record.
    """
    found = {}
    for path in sorted(_HERE.glob("*/*.py")):
        if "\nEXPERIMENT = Experiment(" in path.read_text(encoding="utf-8"):
            if path.stem in found:
                raise ValueError(f"{path} and {found[path.stem]} share a record: rename one")
            found[path.stem] = f"{__package__}.{path.parent.name}.{path.stem}"
    return found


def find(name: str) -> Experiment:
    """Return the experiment of a name.

    Args:
        name: The last part of its module's name.

    Returns:
        What the module declares.

    Raises:
        KeyError: If there is none; the message names the nearest.
    """
    if name not in modules():
        near = difflib.get_close_matches(name, modules(), n=1)
        ending = f"; did you mean {near[0]!r}?" if near else ""
        raise KeyError(f"no experiment is called {name!r}{ending}")
    return importlib.import_module(modules()[name]).EXPERIMENT
