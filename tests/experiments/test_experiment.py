"""Declarations of experiments: plans, comparisons by seed, claims, records with faults."""

from dataclasses import replace

import numpy as np
import pytest

from llmlib.experiments.experiment import Experiment, Runs
from tests.experiments.small import SMALL, made, measure


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
