"""The claims of all experiments by the row of the coverage table that they prove."""

import re
from functools import cache

from llmlib.experiments.catalogue import find_experiment, modules

PLACE = re.compile(r"\{(\w+)\}")
"""Where a row's result takes in an experiment's claims: its name in braces."""


@cache
def claims_by_row() -> dict[str, dict[str, list[str]]]:
    """Gather the sentences of all experiments, by row and by the name of the experiment."""
    found: dict[str, dict[str, list[str]]] = {}
    for name in modules():
        experiment = find_experiment(name)
        for row in filter(None, experiment.claims):
            found.setdefault(row, {})[name] = experiment.sentences(row)
    return found


def expanded(result: str, row: str) -> str:
    """Put an experiment's claims for a row in the place of its name in braces: `{NAME}; 84 runs`.

    Raises:
        KeyError: If an experiment in braces claims nothing for this row.
    """
    claims = claims_by_row().get(row, {})
    for name in PLACE.findall(result):
        if name not in claims:
            raise KeyError(f"{name} claims nothing for the row {row!r}; {sorted(claims)} do")
    return PLACE.sub(lambda match: "; ".join(claims[match[1]]), result)
