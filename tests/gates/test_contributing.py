"""The code that CONTRIBUTING shows is that of the book: each block names where it is from."""

import ast
import re
from pathlib import Path

import pytest
from project import ROOT

from llmlib.experiments import catalogue

QUOTED = re.compile(r"<!-- from: (\S+) (\w+) -->\n```python\n(.*?)```", re.DOTALL)
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def definition(path: Path, name: str) -> str:
    """Return the source of a module's function, class or constant."""
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        names = [getattr(node, "name", "")]
        names += [ast.unparse(target) for target in getattr(node, "targets", [])]
        if name in names:
            return "".join(text.splitlines(keepends=True)[node.lineno - 1 : node.end_lineno])
    raise LookupError(f"{path.name} defines no {name}")


@pytest.mark.parametrize(("path", "name", "shown"), QUOTED.findall(PAGE))
def test_a_block_is_the_source(path: str, name: str, shown: str) -> None:
    assert shown == definition(ROOT / path, name)


def test_every_block_says_where_it_is_from() -> None:
    assert PAGE.count("```python") == len(QUOTED.findall(PAGE)) == 3


def test_the_experiment_is_the_shortest_that_varies_something_and_proves_a_row() -> None:
    lengths = {
        name: len((ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8").splitlines())
        for name, module in catalogue.modules().items()
    }
    shown = Path(QUOTED.findall(PAGE)[0][0]).stem
    for name in (name for name in lengths if lengths[name] <= lengths[shown]):
        experiment = catalogue.find_experiment(name)
        runs = list(experiment.plan())
        varies = len({run["seed"] for run in runs}) < len(runs)
        assert (varies and any(experiment.claims)) == (name == shown)
