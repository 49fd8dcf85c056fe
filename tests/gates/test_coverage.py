"""Every claim of book/coverage.csv is proved: symbols import, anchors exist, tests passed."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coverage_proof import (
    CLAIM,
    CoveringTest,
    anchors,
    claim_problems,
    covering_tests,
    criteria_digest,
    mark_problems,
    notebook_problems,
    outcome_problems,
    results_problems,
    slug,
    symbol_problems,
    table_problems,
)
from project import ROOT, tree_state
from surveybook.coverage import Row, items, load

from llmlib.experiments.claims import claims_by_row, expanded

TABLE = ROOT / "book" / "coverage.csv"

# What counts as done is agreed beforehand. Whoever changes an id or a criterion on purpose puts the
# new digest here, in the same commit.
CRITERIA = "36b932f8442a9432f2e3e86c7f0e2c117bacf9abf4527ace1820fa47962108a9"


@pytest.fixture(scope="module")
def rows() -> tuple[Row, ...]:
    return load(TABLE)


@pytest.fixture(scope="module")
def suite() -> list[CoveringTest]:
    return covering_tests(ROOT)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    path = os.environ.get("LLMLIB_RESULTS")
    if not path:
        pytest.skip("reads the results of the whole suite: run `make test`")
    return json.loads(Path(path).read_text(encoding="utf-8"))


def test_the_table_is_well_formed(rows: tuple[Row, ...]) -> None:
    assert list(table_problems(rows)) == []


def test_every_id_and_criterion_is_intact(rows: tuple[Row, ...]) -> None:
    assert criteria_digest(rows) == CRITERIA


def test_symbols_import(rows: tuple[Row, ...]) -> None:
    assert list(symbol_problems(rows)) == []


def test_notebooks_and_anchors_exist(rows: tuple[Row, ...]) -> None:
    assert list(notebook_problems(rows, ROOT)) == []


def test_tests_exist_and_carry_the_marks(rows: tuple[Row, ...], suite: list[CoveringTest]) -> None:
    assert list(mark_problems(rows, suite)) == []


def test_rows_say_what_experiments_claim(rows: tuple[Row, ...]) -> None:
    assert list(claim_problems(rows, claims_by_row())) == []


def test_the_results_are_of_this_run(results: dict[str, Any]) -> None:
    run = os.environ.get("LLMLIB_RUN", "")
    assert list(results_problems(results, run, tree_state(ROOT))) == []


def test_covering_tests_passed_in_this_run(rows: tuple[Row, ...], results: dict[str, Any]) -> None:
    assert list(outcome_problems(rows, results)) == []


# Each mistake is caught.

TEST = "tests/scaling/test_laws.py::test_law"


def row(**changes: Any) -> Row:
    sound = Row(
        id="scaling.laws",
        chapter="scaling_laws",
        survey="2.1",
        technique="laws",
        done_when="numbers agree",
        symbols=("llmlib.core.files.atomic_write",),
        notebooks=("chapters/02_scaling_laws/01_laws.ipynb#the-law",),
        tests=(TEST,),
        result="0.07",
    )
    return replace(sound, **changes)


def write_notebook(root: Path) -> None:
    path = root / "chapters" / "02_scaling_laws" / "01_laws.ipynb"
    path.parent.mkdir(parents=True)
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Laws, and why\n", "(the-law)=\n"]},
        {
            "cell_type": "code",
            "metadata": {"mystnb": {"figure": {"name": "fig-law"}}},
            "source": "# no heading",
        },
    ]
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")


def outcome(name: str, result: str = "passed", covers: tuple[str, ...] = ("scaling.laws",)) -> Any:
    return {"tests": {name: {"outcome": result, "covers": list(covers)}}}


def test_a_sound_row_passes_everything(tmp_path: Path) -> None:
    write_notebook(tmp_path)
    table = [row()]
    suite = [CoveringTest(TEST, ("scaling.laws",))]
    assert list(table_problems(table)) == []
    assert list(symbol_problems(table)) == []
    assert list(notebook_problems(table, tmp_path)) == []
    assert list(mark_problems(table, suite)) == []
    assert list(outcome_problems(table, outcome(TEST))) == []
    assert list(outcome_problems(table, outcome(f"{TEST}[3-5]"))) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "no id"}, "is no id"),
        ({"chapter": "appendix"}, "no chapter is named"),
        ({"done_when": ""}, "criterion is missing"),
        ({"symbols": ()}, "has no symbol"),
        ({"tests": ()}, "has no test"),
        ({"result": ""}, "has no result"),
    ],
)
def test_a_malformed_row_is_caught(changes: dict[str, str], message: str) -> None:
    assert [p for p in table_problems([row(**changes)]) if message in p]


def test_a_repeated_id_is_caught() -> None:
    assert list(table_problems([row(), row()])) == ["scaling.laws: the id stands 2 times"]


def test_a_changed_criterion_is_caught() -> None:
    assert criteria_digest([row()]) != criteria_digest([row(done_when="numbers nearly agree")])
    assert criteria_digest([row()]) == criteria_digest([row(result="0.08")])


@pytest.mark.parametrize(
    "symbol", ["llmlib.core.files.nothing", "llmlib.nothing.Name", "os.path.join", "llmlib"]
)
def test_a_missing_symbol_is_caught(symbol: str) -> None:
    assert len(list(symbol_problems([row(symbols=("llmlib.core.files", symbol))]))) == 1


@pytest.mark.parametrize(
    "place",
    [
        "chapters/02_scaling_laws/02_none.ipynb#the-law",
        "chapters/02_scaling_laws/01_laws.ipynb",
        "chapters/02_scaling_laws/01_laws.ipynb#no-heading",
        "../elsewhere.ipynb#the-law",
    ],
)
def test_a_missing_anchor_is_caught(tmp_path: Path, place: str) -> None:
    write_notebook(tmp_path)
    assert len(list(notebook_problems([row(notebooks=(place,))], tmp_path))) == 1


def test_anchors_are_labels_headings_and_figures(tmp_path: Path) -> None:
    write_notebook(tmp_path)
    found = anchors(tmp_path / "chapters" / "02_scaling_laws" / "01_laws.ipynb")
    assert found == {"laws-and-why", "the-law", "fig-law"}
    assert slug("Why divide by $\\sqrt{K}$?") == "why-divide-by-sqrtk"


def test_marks_are_read_from_functions_and_classes(tmp_path: Path) -> None:
    path = tmp_path / "tests" / "test_a.py"
    path.parent.mkdir()
    path.write_text(
        "import pytest\n\n"
        '@pytest.mark.covers("a.b")\n@pytest.mark.covers("a.c", "a.d")\ndef test_one(): ...\n\n'
        'def helper(): ...\n\n@pytest.mark.covers("a.e")\nclass TestGroup:\n'
        "    def test_two(self): ...\n",
        encoding="utf-8",
    )
    one, two = covering_tests(tmp_path)
    assert (one.name, set(one.rows)) == ("tests/test_a.py::test_one", {"a.b", "a.c", "a.d"})
    assert two == CoveringTest("tests/test_a.py::TestGroup::test_two", ("a.e",))


def test_wrong_marks_are_caught() -> None:
    many = CoveringTest(TEST, ("scaling.laws", "a.b", "a.c", "a.d"))
    sentences = list(mark_problems([row()], [many]))
    assert sum("is no row" in sentence for sentence in sentences) == 3
    assert sum("at most 3" in sentence for sentence in sentences) == 1
    assert "there is no test" in "".join(mark_problems([row()], []))
    unmarked = [CoveringTest(TEST, ())]
    assert "does not carry" in "".join(mark_problems([row()], unmarked))


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (outcome(TEST, "failed"), "failed"),
        (outcome(TEST, "skipped"), "skipped"),
        (outcome(f"{TEST}_other"), "did not run"),
        (outcome(TEST, covers=()), "without the mark"),
    ],
)
def test_a_test_that_did_not_pass_is_caught(results: dict[str, Any], message: str) -> None:
    assert message in "".join(outcome_problems([row()], results))


CLAIMS = {"scaling.laws": {"laws": ["losses fall", "none rises"]}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"result": "0.07"}, "does not take in the claims of {laws}"),
        ({"result": "{laws} {other}"}, "{other} claims nothing for this row"),
        ({"tests": (TEST,)}, "claims are proved by"),
        ({"id": "scaling.none"}, "scaling.laws: an experiment claims something"),
    ],
)
def test_rows_and_claims_that_do_not_name_each_other_are_caught(changes: Any, message: str) -> None:
    sound = {"result": "{laws}, 0.07", "tests": (TEST, CLAIM)}
    assert list(claim_problems([row(**sound)], CLAIMS)) == []
    assert [p for p in claim_problems([row(**sound | changes)], CLAIMS) if message in p]


def test_of_the_claims_those_of_the_row_must_have_passed() -> None:
    table = [row(tests=(CLAIM,))]
    cases = {
        f"{CLAIM}[laws: losses fall]": {"outcome": "passed", "covers": ["scaling.laws"]},
        f"{CLAIM}[other: x]": {"outcome": "failed", "covers": ["data.bpe"]},
    }
    assert list(outcome_problems(table, {"tests": cases})) == []
    cases[f"{CLAIM}[laws: none rises]"] = {"outcome": "failed", "covers": ["scaling.laws"]}
    assert len(list(outcome_problems(table, {"tests": cases}))) == 1
    del cases[f"{CLAIM}[laws: none rises]"], cases[f"{CLAIM}[laws: losses fall]"]
    assert list(outcome_problems(table, {"tests": cases})) == [f"scaling.laws: {CLAIM} did not run"]


def test_a_result_takes_in_the_claims_of_its_row() -> None:
    text = expanded("{norm_placement}; 84 runs", "arch.bias")
    assert text.startswith("no difference is shown in how often") and text.endswith("; 84 runs")
    with pytest.raises(KeyError):
        expanded("{norm_placement}", "arch.rope")


def test_results_of_another_run_or_tree_are_refused() -> None:
    record = {"run": "7", "tree": "abc", "tests": {}}
    assert list(results_problems(record, "7", "abc")) == []
    assert "another run" in "".join(results_problems(record, "8", "abc"))
    assert "another run" in "".join(results_problems(record | {"run": ""}, "", "abc"))
    assert "changed since" in "".join(results_problems(record, "7", "abd"))


def test_cells_are_lists() -> None:
    assert items(" a ;b; ") == ("a", "b")
