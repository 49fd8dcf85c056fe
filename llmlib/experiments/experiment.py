"""What an experiment declares, and what may be asked of the runs that it made."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from llmlib.core.nearest import did_you_mean
from llmlib.core.statistics import Interval, paired_interval, t_interval
from llmlib.experiments.lines import read_runs

Run = dict[str, Any]
"""A line of a record: what identifies the run, and what it measured."""
Quantity = str | Callable[[Run], float]
"""The name of what a run measured, `a.b` for the entry b of a; or a function of the run."""


class Runs(Sequence[Run]):
    """Runs of one experiment, to select from and to compare by seed.

    Example:
        >>> runs = Runs([{"rank": r, "seed": s, "loss": 2.0 - 0.1 * r + s}
        ...              for r in (1, 4) for s in (0, 1, 2)])
        >>> runs.values("loss", rank=4)
        [1.6, 2.6, 3.6]
        >>> print(runs.difference("loss", rank=(4, 1)))
        -0.30 [-0.30, -0.30]
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = list(runs)

    @overload
    def __getitem__(self, index: int) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> Runs: ...
    def __getitem__(self, index: int | slice) -> Run | Runs:
        return Runs(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def where(self, **fields: Any) -> Runs:
        """Select the runs whose fields have these values, or are true of these functions, by seed.

        Raises:
            ValueError: If there is none, which is always a misspelt condition.
        """

        def fits(run: Run) -> bool:
            return all(
                name in run and (want(run[name]) if callable(want) else run[name] == want)
                for name, want in fields.items()
            )

        found = [run for run in self._runs if fits(run)]
        if not found:
            raise ValueError(f"no run has {fields}")
        return Runs(sorted(found, key=lambda run: run.get("seed", 0)))

    def values(self, quantity: Quantity, **fields: Any) -> list[float]:
        """Return what the selected runs measured, one value a run, by seed."""
        return [_read(run, quantity) for run in self.where(**fields)]

    def interval(self, quantity: Quantity, **fields: Any) -> Interval:
        """Return the mean of what the selected runs measured, and its interval over the seeds."""
        self._require_one_run_a_seed(fields)
        return t_interval(self.values(quantity, **fields))

    def differences(self, quantity: Quantity, **fields: Any) -> list[float]:
        """Return the differences of two conditions seed by seed, the first's less the second's.

        Fields are as in `where`; exactly one is a pair of values, whose runs are compared.

        Raises:
            ValueError: If no field or several are pairs, or the seeds of the two differ.
        """
        first, second = self._two(fields)
        return [_read(a, quantity) - _read(b, quantity) for a, b in zip(first, second, strict=True)]

    def difference(self, quantity: Quantity, **fields: Any) -> Interval:
        """Return the mean of `differences` and its interval over the seeds."""
        first, second = self._two(fields)
        return paired_interval(
            [_read(run, quantity) for run in first], [_read(run, quantity) for run in second]
        )

    def _two(self, fields: dict[str, Any]) -> tuple[Runs, Runs]:
        pairs = [name for name, value in fields.items() if isinstance(value, tuple)]
        if len(pairs) != 1 or len(fields[pairs[0]]) != 2:
            raise ValueError(f"{fields}: give one field a pair of values to compare")
        sides = [fields | {pairs[0]: value} for value in fields[pairs[0]]]
        for side in sides:
            self._require_one_run_a_seed(side)
        first, second = (self.where(**side) for side in sides)
        if [run["seed"] for run in first] != [run["seed"] for run in second]:
            raise ValueError(f"{fields}: the two have not the same seeds")
        return first, second

    def _require_one_run_a_seed(self, fields: dict[str, Any]) -> None:
        seeds = [run["seed"] for run in self.where(**fields)]
        if len(set(seeds)) != len(seeds):
            raise ValueError(f"{fields} leaves several runs a seed: name the other conditions")


Claim = Callable[[Runs], bool]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One long run, declared: its plan, its measurement, and what its record says.

    It stands in a module of its own, `llmlib/experiments/CHAPTER/NAME.py`, as `EXPERIMENT`; the
    module's name is the experiment's, and its record is `data/results/NAME.jsonl`.

    Raises:
        ValueError: If the plan has no runs, or some that a record's lines could not be told from,
            or a sentence stands twice.
    """

    measure: Callable[[Run], Run]
    """Does one run, given its condition and seed; returns what it measured, as JSON values.

    On the same machine the same run gives the same values.
    """
    seeds: Sequence[int]
    """Fixed before the first run."""
    claims: Mapping[str, Mapping[str, Claim]]
    """What the record says: sentences, each with a predicate on the runs, by the row of the
    coverage table that they prove (an empty name for none)."""
    conditions: Mapping[str, Sequence[Any]] | Sequence[Run] = field(default_factory=dict)
    """Values of each field that is varied; the plan is their product, or the list of these where
    some combinations are left out. One of a list that names a seed is run with that one alone."""
    equal: tuple[str, ...] = ()
    """Measured fields that must have one value in all runs, as `tokens`."""
    depends: tuple[str, ...] = ()
    """Further modules whose change may change what is measured. What `measure` calls in
    `llmlib.experiments` is followed without being named."""
    threads: int = 1
    tolerance: float = 1e-2
    """How much the numbers of a repeated run may differ, relatively, before a record is stale."""
    table: Callable[[Runs], object] | None = None
    """Prints the record; default: means over the seeds."""

    def __post_init__(self) -> None:
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        if self.name == "__main__" and spec and spec.name.startswith(f"{__package__}."):
            name = spec.name.rpartition(".")[2]  # `python -m` on the module would do nothing
            raise SystemExit(f"`python -m {__package__} {name}` makes this experiment's runs")
        plan = list(self.plan())
        if not plan:
            raise ValueError("no run is planned: give seeds, and values of each condition")
        for run in plan:
            if not _is_json(run):
                raise ValueError(
                    f"{run} is read otherwise from a record: give seeds and conditions as JSON "
                    "values, a list for a tuple"
                )
            if sum(run.items() <= other.items() for other in plan) > 1:
                raise ValueError(
                    f"{run} is planned twice, or is a part of another run: give it a field that "
                    "tells it from the others"
                )
        sentences = self.sentences()
        for sentence in set(sentences):
            if sentences.count(sentence) > 1:
                raise ValueError(f"claimed for two rows: {sentence!r}; word it otherwise for one")

    @property
    def name(self) -> str:
        """The last part of the module's name."""
        return self.measure.__module__.rpartition(".")[2]

    def plan(self) -> Iterator[Run]:
        """Yield what identifies each run, all conditions of one seed after the other's.

        Conditions with a seed of their own come last.
        """
        if isinstance(self.conditions, Mapping):
            products = itertools.product(*self.conditions.values())
            conditions = [dict(zip(self.conditions, values, strict=True)) for values in products]
        else:
            conditions = self.conditions
        for seed in self.seeds:
            for condition in conditions:
                if "seed" not in condition:
                    yield {**condition, "seed": seed}
        yield from (dict(condition) for condition in conditions if "seed" in condition)

    def runs(self) -> Runs:
        """Read the committed record, its runs in the order in which they were made."""
        return Runs(read_runs(self.name))

    def sentences(self, row: str | None = None) -> list[str]:
        """List the claims, or those that prove one row of the coverage table."""
        return [
            sentence
            for rows, claims in self.claims.items()
            for sentence in claims
            if row is None or row == rows
        ]

    def holds(self, sentence: str) -> bool:
        """Say whether the committed record bears a claim out, a sentence given word for word.

        Raises:
            KeyError: If there is no such claim; the message names the nearest.
            TypeError: If the predicate says neither yes nor no.
        """
        claims = {s: claim for group in self.claims.values() for s, claim in group.items()}
        if sentence not in claims:
            ending = did_you_mean(sentence, claims)
            raise KeyError(f"{self.name} claims no such thing as {sentence!r}{ending}")
        said = claims[sentence](self.runs())
        if not isinstance(said, bool | np.bool_):  # an interval, say, counts as true whatever it is
            raise TypeError(f"{sentence!r}: the predicate returns {said!r}; make it True or False")
        return bool(said)

    def problems(self) -> Iterator[str]:
        """Say what is wrong with the committed record: runs missing, twice or unequal."""
        runs = self.runs()
        missing = list(self.plan())
        for run in runs:
            planned = next((one for one in missing if one.items() <= run.items()), None)
            if planned is None:
                yield f"a run stands twice or is in no plan: {str(run)[:80]}"
            else:
                missing.remove(planned)
            if not run.get("machine") or run.get("threads") != self.threads:
                yield f"a run names no machine, or other threads than {self.threads}"
        for run in missing:
            yield f"a run is missing: {run}"
        for name in self.equal:
            found = {repr(run.get(name)) for run in runs}
            if len(found) != 1 or found == {"None"}:
                yield f"{name} is not the same in all runs: {sorted(found)[:4]}"


def _read(run: Run, quantity: Quantity) -> float:
    if callable(quantity):
        return float(quantity(run))
    value: Any = run
    for part in quantity.split("."):
        if not isinstance(value, dict) or part not in value:
            raise KeyError(f"{quantity!r} was not measured in {str(run)[:80]}")
        value = value[part]
    return float(value)


def _is_json(run: Run) -> bool:
    try:
        return json.loads(json.dumps(run)) == run
    except TypeError:
        return False
