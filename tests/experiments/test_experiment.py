"""Declarations of experiments: plans, comparisons by seed, fingerprints, records that go on."""

import ast
import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from llmlib.experiments import __main__ as command
from llmlib.experiments import catalogue
from llmlib.experiments import fingerprint as fingerprints
from llmlib.experiments.__main__ import list_all, main, show
from llmlib.experiments.catalogue import find_experiment, modules
from llmlib.experiments.claims import expanded
from llmlib.experiments.experiment import Experiment, Run, Runs
from llmlib.experiments.fingerprint import _structure, fingerprint, reached
from llmlib.experiments.lines import load_record, store_record
from llmlib.experiments.records import check_record, perform, record_of, run_missing, stamp, state


def measure(run: Run) -> Run:
    return {
        "loss": 2.0 - run["rank"] / 10 + run["seed"],
        "parts": {"a": [run["seed"], 0.5], "b": run["seed"]},
    }


def is_better(rank: int, other: int) -> Callable[[Runs], bool]:
    return lambda runs: runs.difference("loss", rank=(rank, other), tied=True).high < 0


SMALL = Experiment(
    conditions={"rank": (1, 4), "tied": (False, True)},
    seeds=(0, 1, 2),
    measure=measure,
    claims={
        "adapt.lora": {"rank 4 is better": is_better(4, 1)},
        "": {"rank 1 is better": is_better(1, 4)},
    },
)


def made() -> list[Run]:
    about = {"machine": "m", "threads": 1, "cpu_seconds": 1.0}
    return [run | measure(run) | about for run in SMALL.plan()]


# Plans and comparisons


def test_the_plan_is_the_product_and_a_list_is_itself() -> None:
    plan = list(SMALL.plan())
    assert plan[:2] == [
        {"rank": 1, "tied": False, "seed": 0},
        {"rank": 1, "tied": True, "seed": 0},
    ]
    assert len(plan) == 12 == len({str(run) for run in plan})
    some = Experiment(
        conditions=[{"a": 1}, {"a": 2, "b": 3}], seeds=(5,), measure=measure, claims={}
    )
    assert list(some.plan()) == [{"a": 1, "seed": 5}, {"a": 2, "b": 3, "seed": 5}]
    once = Experiment(
        conditions=[{"a": 1, "seed": 3}, {"a": 2}], seeds=(5, 6), measure=measure, claims={}
    )
    assert list(once.plan()) == [{"a": 2, "seed": 5}, {"a": 2, "seed": 6}, {"a": 1, "seed": 3}]
    alone = Experiment(seeds=(0, 1), measure=measure, claims={})
    assert list(alone.plan()) == [{"seed": 0}, {"seed": 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ()}, "no run is planned"),
        ({"conditions": {"rank": ()}}, "no run is planned"),
        ({"conditions": {"rank": (1, 1)}}, "planned twice"),
        ({"conditions": [{"a": 1, "b": 2}, {"a": 1}]}, "a part of another run"),
        ({"conditions": {"betas": [(0.9, 0.99)]}}, "a list for a tuple"),
        ({"conditions": {"rate": [np.float32(0.1)]}}, "as JSON values"),
        ({"conditions": {"rate": [float("nan")]}}, "as JSON values"),
        ({"claims": {"a": {"so": all}, "b": {"so": any}}}, "claimed for two rows: 'so'"),
    ],
)
def test_a_declaration_that_no_record_can_follow_is_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Experiment(**{"measure": measure, "seeds": (0, 1), "claims": {}} | change)


def test_runs_are_compared_by_seed_in_whatever_order_they_were_made() -> None:
    runs = Runs(made()[::-1])
    assert runs.values("loss", rank=1, tied=True) == pytest.approx([1.9, 2.9, 3.9])
    assert runs.values(lambda run: run["parts"]["a"][0], rank=1, tied=True) == [0, 1, 2]
    assert runs.difference("loss", rank=(4, 1), tied=False) == pytest.approx((-0.3, -0.3, -0.3))
    assert runs.differences("loss", rank=(1, 4), tied=False) == pytest.approx([0.3] * 3)
    assert runs.interval("loss", rank=4, tied=True).value == pytest.approx(2.6)
    assert len(runs.where(seed=lambda seed: seed > 0)) == 8
    assert len(runs[:5]) == 5 and isinstance(runs[:5], Runs)


def test_a_comparison_that_is_none_is_refused() -> None:
    runs = Runs(made())
    with pytest.raises(ValueError, match="no run has"):
        runs.where(rank=2)
    with pytest.raises(ValueError, match="no run has {'rnak': 1}"):
        runs.where(rnak=1)
    with pytest.raises(KeyError, match="'parts.c' was not measured"):
        runs.values("parts.c")
    with pytest.raises(KeyError, match="'loss.c' was not measured"):
        runs.values("loss.c")
    with pytest.raises(ValueError, match="several runs a seed"):
        runs.interval("loss", rank=1)
    with pytest.raises(ValueError, match="several runs a seed"):
        runs.difference("loss", rank=(1, 4))
    with pytest.raises(ValueError, match="give one field a pair"):
        runs.difference("loss", rank=1, tied=True)
    with pytest.raises(ValueError, match="give one field a pair"):
        runs.difference("loss", rank=(1, 4), tied=(True, False))
    with pytest.raises(ValueError, match="not the same seeds"):
        Runs(made()[:-1]).difference("loss", rank=(1, 4), tied=True)


def test_claims_are_read_off_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Experiment, "runs", lambda self: Runs(made()))
    assert SMALL.sentences() == ["rank 4 is better", "rank 1 is better"]
    assert SMALL.sentences("adapt.lora") == ["rank 4 is better"]
    assert SMALL.holds("rank 4 is better")
    assert not SMALL.holds("rank 1 is better")
    with pytest.raises(KeyError, match="claims no such thing .* did you mean 'rank 4 is better'"):
        SMALL.holds("rank 4 is beter")
    yes = {"it differs": lambda runs: runs.difference("loss", rank=(1, 4), tied=True)}
    with pytest.raises(TypeError, match="'it differs': the predicate returns Interval"):
        replace(SMALL, claims={"": yes}).holds("it differs")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda runs: runs[1:], "a run is missing: {'rank': 1, 'tied': False, 'seed': 0}"),
        (lambda runs: [*runs, runs[0]], "stands twice"),
        (lambda runs: [*runs, runs[0] | {"seed": 9}], "in no plan"),
        (lambda runs: [runs[0] | {"threads": 2}, *runs[1:]], "other threads than 1"),
        (lambda runs: [runs[0] | {"machine": ""}, *runs[1:]], "names no machine"),
        (lambda runs: [runs[0] | {"tokens": 8}, *runs[1:]], "tokens is not the same in all runs"),
        (lambda runs: runs, "tokens is not the same in all runs"),
    ],
)
def test_a_record_with_a_fault_is_found_out(spoil, problem, monkeypatch) -> None:
    declared = Experiment(
        conditions=SMALL.conditions, seeds=SMALL.seeds, measure=measure, claims={},
        equal=("tokens",) if "tokens" in problem else (),
    )  # fmt: skip
    monkeypatch.setattr(Experiment, "runs", lambda self: Runs(spoil(made())))
    assert any(problem in found for found in declared.problems())
    monkeypatch.setattr(Experiment, "runs", lambda self: Runs([r | {"tokens": 7} for r in made()]))
    assert list(declared.problems()) == []


# Fingerprints

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


# Records


def test_a_record_is_completed_run_by_run(tmp_path: Path) -> None:
    record, say = tmp_path / "small.jsonl", io.StringIO()
    store_record(record, [line | {"code": fingerprint(SMALL)} for line in made()[:7]])
    assert run_missing(SMALL, record, minutes=0, say=say) == 5
    assert run_missing(SMALL, record, say=say) == 0
    runs = load_record(record)
    assert len(runs) == 12 == len(say.getvalue().splitlines()) + 7
    assert runs[7]["command"] == f"python -m llmlib.experiments {SMALL.name}"
    assert {"seconds", "machine", "threads", "versions", "code"} <= runs[11].keys()
    assert run_missing(SMALL, record, say=say) == 0 and load_record(record) == runs


def test_a_run_that_another_process_adds_is_kept_and_not_done_again(tmp_path: Path) -> None:
    record, other = tmp_path / "small.jsonl", made()[-1] | {"by": "another process"}

    class Meanwhile(io.StringIO):
        def write(self, text: str) -> int:
            if other not in load_record(record):
                store_record(record, [*load_record(record), other])
            return super().write(text)

    assert run_missing(SMALL, record, say=Meanwhile()) == 0
    assert len(load_record(record)) == 12 and other in load_record(record)


@pytest.mark.parametrize("taken", ["seed", "rank", "seconds", "stale"])
def test_a_measurement_cannot_rename_its_run(taken: str) -> None:
    with pytest.raises(ValueError, match=f"measures {taken!r}, a name that is taken"):
        perform(replace(SMALL, measure=lambda run: {taken: 9}), next(SMALL.plan()))


def test_a_measurement_that_changes_its_condition_changes_no_record() -> None:
    planned = {"rank": 1, "tied": False, "seed": 0}
    line = perform(replace(SMALL, measure=lambda run: {"lost": run.pop("rank")}), planned)
    assert line["rank"] == line["lost"] == 1


@pytest.mark.parametrize("line", ["", '{"rank": 1, "tied', "[1]", "\ufeff{}"])
def test_a_line_that_is_no_run_is_named(line: str, tmp_path: Path) -> None:
    record = tmp_path / "small.jsonl"
    record.write_text(f"{json.dumps(made()[0])}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"small.jsonl, line 2 is no run: .* take the line away"):
        load_record(record)
    record.write_text('{"text": "one\u2028line"}\r\n{"rank": 1}', encoding="utf-8")
    assert load_record(record) == [{"text": "one\u2028line"}, {"rank": 1}]


def test_what_holds_no_run_is_neither_stamped_nor_checked(tmp_path: Path) -> None:
    record = tmp_path / "small.jsonl"
    with pytest.raises(ValueError, match="no run to stamp"):
        stamp(SMALL, record)
    assert not record.exists()
    store_record(record, [made()[0] | {"rank": 9}])
    with pytest.raises(ValueError, match="no run that is planned"):
        check_record(SMALL, record)


def test_the_check_does_the_cheapest_planned_run_again(tmp_path: Path) -> None:
    record = tmp_path / "small.jsonl"
    unplanned = made()[0] | {"rank": 9, "cpu_seconds": 0.0}
    untimed = {name: value for name, value in made()[0].items() if name != "cpu_seconds"}
    cheapest = made()[1] | {"cpu_seconds": 0.5}
    store_record(record, [unplanned, untimed, cheapest, *made()[2:]])
    done: list[Run] = []

    def again(experiment: Experiment, run: Run) -> Run:
        done.append(run)
        return perform(experiment, run)

    assert check_record(SMALL, record, again) == []
    assert done == [list(SMALL.plan())[1]]


def test_a_record_has_its_place_whatever_the_working_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = find_experiment("norm_placement")
    assert load_record(record_of(experiment)) == list(experiment.runs())


def until_the_power_fails(run: Run) -> Run:
    if run["seed"] == 1 and run["rank"] == 4:
        raise RuntimeError("the power failed")
    return measure(run)


def test_what_was_done_before_a_failure_is_kept(tmp_path: Path) -> None:
    record = tmp_path / "small.jsonl"
    with pytest.raises(RuntimeError, match="power"):
        run_missing(replace(SMALL, measure=until_the_power_fails), record, say=io.StringIO())
    done = list(SMALL.plan())[:6]
    assert [run["loss"] for run in load_record(record)] == [measure(run)["loss"] for run in done]
    assert run_missing(SMALL, record, say=io.StringIO()) == 0
    assert len(load_record(record)) == 12


def test_the_state_of_a_record_follows_its_code(tmp_path: Path) -> None:
    record = tmp_path / "small.jsonl"
    store_record(record, [line | {"code": "of another time"} for line in made()])
    assert state(SMALL, load_record(record)) == "changed"
    assert check_record(SMALL, record) == []
    assert state(SMALL, load_record(record)) == "current"
    spoilt = [run | {"loss": run["loss"] * 1.1} for run in load_record(record)]
    store_record(record, spoilt)
    (wrong,) = check_record(SMALL, record)
    assert wrong.startswith("loss: ")
    assert state(SMALL, load_record(record)) == "stale"
    assert run_missing(SMALL, record, say=io.StringIO()) == 0  # stale lines are made again
    assert state(SMALL, load_record(record)) == "current"
    assert {run["loss"] for run in load_record(record)} == {run["loss"] for run in made()}
    store_record(record, [line | {"code": "of another time"} for line in made()])
    stamp(SMALL, record)
    assert state(SMALL, load_record(record)) == "current"


@pytest.mark.parametrize(
    "spoil", [lambda parts: {"a": [parts["a"][0], 0.6]}, lambda parts: {"b": 1}, lambda parts: None]
)
def test_a_check_looks_into_lists_and_dictionaries(spoil, tmp_path: Path) -> None:
    record = tmp_path / "small.jsonl"
    store_record(record, [run | {"parts": spoil(run["parts"])} for run in made()])
    assert any(line.startswith("parts") for line in check_record(SMALL, record))


# The command


def test_the_command_lists_shows_and_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    name = next(iter(modules()))
    assert main([name, "--table"]) == 0
    assert "seeds" in capsys.readouterr().out or find_experiment(name).table is not None
    assert main(["no_such_thing"]) == 2
    assert "no experiment is called" in capsys.readouterr().err
    assert main(["norm_placemen"]) == 2
    assert "did you mean 'norm_placement'?" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["--table", "--check", "--stamp"])
def test_the_command_says_what_is_wrong_with_a_record(task, tmp_path, capsys) -> None:
    record = tmp_path / "none.jsonl"
    assert main(["norm_placement", task, "--record", str(record)]) == 2
    assert "none.jsonl holds no run: `python -m llmlib.exper" in capsys.readouterr().err
    assert not record.exists()
    record.write_text("{", encoding="utf-8")
    assert main(["norm_placement", task, "--record", str(record)]) == 2
    assert "line 1 is no run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["norm_placement", "--renew"], "name no experiment"),
        (["--changed", "--record", "x.jsonl"], "name no experiment and no record"),
        (["--stamp"], "name an experiment"),
        (["--record", "x.jsonl"], "name an experiment"),
        (["norm_placement", "--table", "--stamp"], "not allowed with"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(arguments, message, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_list_asks_no_claim_of_a_record_that_is_not_whole(monkeypatch) -> None:
    records = {"whole": made(), "begun": [*made()[:2], made()[3] | {"stale": "x"}], "none": []}
    monkeypatch.setattr(command, "modules", lambda: dict.fromkeys(records))
    monkeypatch.setattr(command, "find_experiment", lambda name: replace(SMALL, equal=(name,)))
    monkeypatch.setattr(command, "record_of", lambda experiment: experiment.equal[0])
    monkeypatch.setattr(command, "load_record", records.__getitem__)
    monkeypatch.setattr(Experiment, "runs", lambda self: Runs(records[self.equal[0]]))
    columns = [list(column.cells) for column in list_all().columns]
    assert columns[1:] == [
        ["12 of 12", "2 of 12", "0 of 12"],
        ["changed", "stale", ""],
        ["1 of 2", "", ""],
    ]


def test_the_table_of_conditions_with_other_fields_has_each_value_under_its_name() -> None:
    parts = replace(SMALL, conditions=[{"a": 1}, {"a": 2, "b": 3}, {"c": 4}])
    runs = [run | ({"gain": 5.0} if "c" in run else {"loss": 2.0}) for run in parts.plan()]
    columns = {str(column.header): list(column.cells) for column in show(parts, Runs(runs)).columns}
    assert columns == {
        "a": ["1", "2", ""], "b": ["", "3", ""], "c": ["", "", "4"], "seeds": ["3"] * 3,
        "loss": ["2", "2", ""], "gain": ["", "", "5"],
    }  # fmt: skip


def test_the_table_has_a_line_a_condition() -> None:
    table = show(SMALL, Runs(made()))
    assert table.row_count == 4
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["rank"] == ["1", "1", "4", "4"] and columns["seeds"] == ["3"] * 4
    assert columns["loss"] == ["2.9", "2.9", "2.6", "2.6"]
    assert columns["parts.b"] == ["1"] * 4 and "parts.a" not in columns
    runs = [run | {f"q{i}": i for i in range(7)} for run in made()]
    turned = show(SMALL, Runs(runs))
    assert turned.row_count == 9
    first, *others = turned.columns
    assert [str(c.header) for c in others] == ["1, False", "1, True", "4, False", "4, True"]
    assert list(others[2].cells)[list(first.cells).index("loss")] == "2.6"


def test_two_experiments_of_one_name_are_refused(tmp_path, monkeypatch) -> None:
    for chapter in ("data", "scaling"):
        (tmp_path / chapter).mkdir()
        (tmp_path / chapter / "twice.py").write_text("x = 1\nEXPERIMENT = Experiment(x)\n")
    with pytest.raises(ValueError, match="twice.py and .*data.twice share a record"):
        catalogue.declared_in(tmp_path)


def test_a_result_takes_in_the_claims_of_its_row() -> None:
    experiment = find_experiment("norm_placement")
    row = next(filter(None, experiment.claims))
    assert expanded("{norm_placement}!", row) == "; ".join(experiment.sentences(row)) + "!"
    with pytest.raises(KeyError, match=f"norm_placemen claims nothing for the row '{row}'"):
        expanded("{norm_placemen}", row)


def test_a_declaration_is_found_by_its_file_name() -> None:
    assert modules()["norm_placement"] == "llmlib.experiments.architecture.norm_placement"
    for name in modules():
        assert find_experiment(name).name == name
