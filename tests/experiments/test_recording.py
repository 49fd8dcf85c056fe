"""Records are completed run by run, and checked when their code has changed."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from llmlib.core.hardware.machine import machine_class
from llmlib.experiments.catalogue import find_experiment
from llmlib.experiments.experiment import Experiment, Run
from llmlib.experiments.fingerprint import fingerprint
from llmlib.experiments.lines import load_record, store_record
from llmlib.experiments.records import (
    check_record,
    perform,
    record_of,
    run_missing,
    stamp,
    state,
)
from tests.experiments.small import SMALL, made, measure


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
    here = {"machine": machine_class()}
    spoilt = [run | here | {"loss": run["loss"] * 1.1} for run in load_record(record)]
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


def test_a_record_of_another_machine_is_told_apart_from_a_stale_one(tmp_path: Path) -> None:
    record = tmp_path / "small.jsonl"
    elsewhere = [run | {"machine": "another", "loss": run["loss"] * 1.1} for run in made()]
    store_record(record, elsewhere)
    first, *wrong = check_record(SMALL, record)
    assert first.startswith("made on another, and this is ") and wrong[0].startswith("loss: ")
    assert load_record(record) == elsewhere
    store_record(record, [run | {"machine": "another"} for run in made()])
    assert check_record(SMALL, record) == []
