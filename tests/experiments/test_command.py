"""The command of all experiments: tables, the list, and what it refuses."""

import runpy
import sys
from dataclasses import replace

import pytest

from llmlib.experiments import __main__ as command
from llmlib.experiments.__main__ import list_all, main, show
from llmlib.experiments.catalogue import find_experiment, modules
from llmlib.experiments.experiment import Experiment, Runs
from tests.experiments.small import SMALL, made


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


def test_the_module_of_an_experiment_says_how_it_is_run(monkeypatch) -> None:
    module = modules()["curriculum_order"]
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit, match="`python -m llmlib.experiments curriculum_order` makes"):
        runpy.run_module(module, run_name="__main__", alter_sys=True)
