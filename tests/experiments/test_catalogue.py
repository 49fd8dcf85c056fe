"""Experiments are found by name, and their claims by row."""

import pytest

from llmlib.experiments import catalogue
from llmlib.experiments.catalogue import find_experiment, modules
from llmlib.experiments.claims import expanded


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
