"""What decides what is measured counts in a fingerprint, and nothing else does."""

import ast
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from llmlib.experiments import fingerprint as fingerprints
from llmlib.experiments.experiment import Experiment, Run
from llmlib.experiments.fingerprint import _structure, fingerprint, reached
from tests.experiments.small import SMALL, measure

MODULE = '''
"""A docstring."""
from math import sqrt
from llmlib.experiments.short_text import VOCAB_SIZE

RATE = 0.1  # how fast

def helper(x: int) -> float:
    """Say nothing."""
    return RATE * sqrt(x) * VOCAB_SIZE

def measure(run):
    prompt = "a # b  c"
    return {"x": helper(run["seed"])}

def claim(runs):
    return True
'''


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return what a module's text hashes to."""
    real = fingerprints._source

    def hash_of(text: str) -> str:
        fingerprints._read.cache_clear()
        monkeypatch.setattr(
            fingerprints, "_source", lambda name: text if name == "tried" else real(name)
        )
        found = reached("tried", "measure")
        return json.dumps(sorted(found.values()))

    yield hash_of
    fingerprints._read.cache_clear()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# how fast", "# a remark"),
        ('"""Say nothing."""', '"""Say more,\n    in two lines."""'),
        ("helper(x: int)", "helper(\n    x: int,\n)"),
        ("    return True", "    return False"),
        ("from math import sqrt\n", "from cmath import sqrt\n"),  # a library's move
        ("RATE = 0.1", "\n\nRATE   =   0.1"),
        ("# how fast", "# a form feed \f, and a line separator \u2028"),
        ('"a # b  c"', "(\"a #\"\n    ' b  c')"),
    ],
)
def test_what_decides_nothing_does_not_count(hashed, old: str, new: str) -> None:
    assert old in MODULE
    assert hashed(MODULE) == hashed(MODULE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("RATE = 0.1", "RATE = 0.2"),
        ("* sqrt(x)", "/ sqrt(x)"),
        ("a # b  c", "a # b c"),
        ("a # b  c", "a # d  c"),
        ('run["seed"]', 'run["rank"]'),
        ("import VOCAB_SIZE", "import frequency_loss as VOCAB_SIZE"),
        ("\ndef helper", "if True:\n    RATE = 0.3\n\ndef helper"),
        ("\ndef helper", "RATE *= 3\n\ndef helper"),
        ("a # b  c", "ä # b  c"),
    ],
)
def test_what_decides_counts(hashed, old: str, new: str) -> None:
    assert old in MODULE
    assert hashed(MODULE) != hashed(MODULE.replace(old, new))


def test_the_block_that_a_statement_stands_in_counts(hashed) -> None:
    looped = "def measure(run):\n    for step in run:\n        a(step)\n        b(step)\n"
    assert hashed(looped) != hashed(looped.replace("        b", "    b"))


def test_the_comma_of_a_tuple_of_one_counts(hashed) -> None:
    text = "def measure(run):\n    return (run,)\n"
    assert hashed(text) != hashed(text.replace(",", ""))


def test_where_the_project_keeps_what_a_dependency_imports_does_not_count() -> None:
    line = "from llmlib.core.files import atomic_write"
    written = ast.parse(line)
    assert _structure(written) == _structure(ast.parse(line.replace("core.files", "data.files")))
    assert _structure(written) != _structure(ast.parse(line.replace("write", "path")))
    assert _structure(written) != _structure(ast.parse(line.replace("llmlib", "another")))


@pytest.mark.parametrize(
    ("old", "new"), [("RATE = 0.1", "RATE = 0.2"), ("return RATE", "return 2 * RATE")]
)
def test_what_is_defined_under_a_condition_counts(hashed, old: str, new: str) -> None:
    text = (
        "RATE = 1\nif RATE:\n    RATE = 0.1\n    def helper(x):\n        return RATE\n"
        "else:\n    helper = None\ndef measure(run):\n    return helper(1)\n"
    )
    assert hashed(text) != hashed(text.replace(old, new))


def test_an_f_string_counts_alike_on_every_python() -> None:
    def part(text: str) -> ast.expr:
        return ast.Constant(text)

    name = ast.FormattedValue(ast.Name("x", ast.Load()), conversion=-1)
    whole = ast.JoinedStr([part("ab"), name])
    pieces = ast.JoinedStr([part("a"), part("b"), name, part("")])  # so 3.12 reads f"a" "b{x}"
    assert fingerprints._structure(whole) == fingerprints._structure(pieces)
    other = ast.JoinedStr([part("a"), name, part("b")])
    assert fingerprints._structure(whole) != fingerprints._structure(other)


@pytest.mark.parametrize(
    "line",
    [
        "from .short_text import cut_text",
        "import llmlib.experiments.short_text",
        "import llmlib.experiments.short_text as text",
        "from llmlib.experiments.short_text import *",
        "from llmlib import experiments",
    ],
)
def test_an_import_that_is_not_followed_is_refused(hashed, line: str) -> None:
    with pytest.raises(ValueError, match="tried, line 3: write `from llmlib.experiments.MODULE"):
        hashed(MODULE.replace("from math import sqrt", line))


def test_definitions_are_followed_through_the_experiments() -> None:
    found = reached("llmlib.experiments.data.code_share", "measure")
    assert ("llmlib.experiments.short_training", "train_briefly") in found
    assert ("llmlib.experiments.worlds.word_problems", "problem") in found
    assert ("llmlib.experiments.data.code_share", "EXPERIMENT") not in found


def test_a_module_that_an_experiment_depends_on_counts_whole() -> None:
    def with_depends(*names: str) -> str:
        return fingerprint(Experiment(measure=measure, seeds=(0,), claims={}, depends=names))

    plain, one = with_depends(), with_depends("llmlib.training.optimizers.schedules")
    assert len(plain) == 16 and plain != one != with_depends("llmlib.training.optimizers.muon")
    with pytest.raises(ValueError, match="no module llmlib.training.none"):
        with_depends("llmlib.training.none")
    with pytest.raises(ValueError, match="llmlib.training is a package"):
        with_depends("llmlib.training")


class Measurer:
    def measure(self, run: Run) -> Run:
        return measure(run)


@pytest.mark.parametrize("unknown", [lambda run: {}, partial(measure), Measurer().measure])
def test_a_measurement_whose_code_cannot_be_followed_is_refused(unknown) -> None:
    with pytest.raises(ValueError, match="make it a function that stands by itself"):
        fingerprint(replace(SMALL, measure=unknown))


def test_names_are_followed_through_the_modules_that_hand_them_on(monkeypatch) -> None:
    texts = {
        "tried": "def measure(run):\n    from llmlib.experiments.a import helper\n    helper()",
        "llmlib.experiments.a": "from llmlib.experiments.b import helper, other",
        "llmlib.experiments.b": "from llmlib.experiments.a import other\ndef helper(): other()",
    }
    fingerprints._read.cache_clear()
    monkeypatch.setattr(fingerprints, "_source", texts.__getitem__)
    found = reached("tried", "measure")
    fingerprints._read.cache_clear()
    assert set(found) == {("tried", "measure"), ("llmlib.experiments.b", "helper")}
