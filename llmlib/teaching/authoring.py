"""Write an exercise: a reference, checks in order, and the wrong answers that students give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from llmlib.teaching.answers.measured import copied
from llmlib.teaching.differences import difference, value_difference
from llmlib.teaching.raised import describe_raised

Status = Literal["passed", "wrong", "error", "not attempted"]

_MOST_ITEMS = 100_000  # of an iterator that an answer returns

REGISTRY: dict[str, Exercise] = {}
"""Every exercise constructed so far, by name."""


class WrongAnswer(Exception):  # noqa: N818 - it is a diagnosis, not an error of ours
    """A check found the answer wrong; the message is the diagnosis the student reads."""


@dataclass(frozen=True)
class Args:
    """The arguments of one call, for a case; `args` makes it."""

    positional: tuple[Any, ...]
    named: dict[str, Any]


def args(*positional: Any, **named: Any) -> Args:
    """Say what a case calls the answer and the reference with.

    Each gets its own copy, so one that changes its arguments cannot mislead the other; an answer
    that does so is wrong.

    Example:
        >>> args(2, scale=0.5)
        Args(positional=(2,), named={'scale': 0.5})
    """
    return Args(positional, named)


Call = Args | Callable[[Any], Any]
Case = Call | Sequence[Args]
"""Arguments of one call or of several, or a function whose results are compared.

A function calls its argument, the answer or the reference, as it likes; it may be a class. It may
call `expect`, and makes its own copies of arguments that an answer might change. Under
`llmlib.teaching.grade` the answer lives in another process: what it returns arrives as a copy
without autograd history, and changes made to it stay here.
"""


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Draw float32 numbers of mean 0 and variance 1, the same ones each time for a seed.

    Example:
        >>> normal(2, 3).shape, bool(normal(5).equal(normal(5, seed=1)))
        (torch.Size([2, 3]), False)
    """
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw numbers from 0 to 1, the same ones each time for a seed."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@dataclass(frozen=True)
class Outcome:
    """What came of evaluating an answer."""

    exercise: str
    status: Status
    """`error`: the student's code raised."""
    message: str
    """The diagnosis; empty when it passed or was not attempted."""
    passed: int
    """How many checks passed, in their order."""
    total: int


def expect(condition: bool, message: str) -> None:
    """Raise `WrongAnswer`, with a diagnosis for the student, unless a condition holds."""
    if not condition:
        raise WrongAnswer(message)


class Exercise:
    """One exercise: constructed once, in a module of `llmlib.teaching.checks`.

    The module says which notebook it belongs to: `NOTEBOOK = "04_architecture/01_attention"`.
    Cases are tried in the order they are written, the most basic first, and the first that fails
    gives the diagnosis. An answer that agrees with a declared mistake gets that mistake's message.

    Args:
        name: A Python identifier, unique in the book; the file of its solution bears it.
        cases: What is tried, by a few words that say what it is: `heads of 4 and 64 numbers`.
        mistakes: Typical wrong implementations, by what to tell the student who wrote one: what
            they did, and where to look.
        points: What it is worth in a course.
        hints: From a nudge to nearly the answer.
        symbol: The name of the function or class that the student writes; by default
            the exercise's.
        kind: Whether an answer must also be of the reference's kind and dtype, because these are
            what is taught or measured. Otherwise values decide; see `difference`.

    Example:
        >>> twice = Exercise(
        ...     "twice", reference=lambda x: 2 * x, cases={"a number": args(3)},
        ...     mistakes={"you squared it": lambda x: x * x},
        ... )
        >>> twice.evaluate(lambda x: x * x).message
        'a number: you squared it'
        >>> _ = REGISTRY.pop("twice")
    """

    def __init__(
        self,
        name: str,
        *,
        reference: Callable[..., Any],
        cases: Mapping[str, Case] | None = None,
        mistakes: Mapping[str, Callable[..., Any]] | None = None,
        title: str = "",
        points: int | float = 1,
        hints: tuple[str, ...] = (),
        symbol: str | None = None,
        kind: bool = False,
        rtol: int | float = 1e-4,
        atol: int | float = 1e-5,
    ) -> None:
        if not name.isidentifier():
            raise ValueError(f"an exercise's name is a Python identifier, not {name!r}")
        self.name, self.reference, self.title = name, reference, title
        self.points, self.hints = points, hints
        self.symbol = symbol or name
        self.kind = kind
        self.rtol, self.atol = rtol, atol
        self.cases = dict(cases or {})
        self.mistakes = dict(mistakes or {})
        REGISTRY[name] = self

    def evaluate(self, answer: Any) -> Outcome:
        """Run the checks in order until one fails; of its exceptions only an interrupt escapes.

        None, `...` and a function that raises `NotImplementedError` count as not attempted.
        """
        total = len(self.cases)
        if answer is None or answer is Ellipsis:
            return Outcome(self.name, "not attempted", "", 0, total)
        calls = [
            (passed, place, one)
            for passed, (description, case) in enumerate(self.cases.items())
            for place, one in _calls(description, case)
        ]
        for number, (passed, place, case) in enumerate(calls):
            before = [call for _, _, call in calls[:number]]
            status, message = self._tried(case, answer, before)
            if status == "not attempted":
                return Outcome(self.name, status, "", 0, total)
            if status != "passed":
                return Outcome(self.name, status, f"{place}: {message}", passed, total)
        return Outcome(self.name, "passed", "", total, total)

    def _tried(self, case: Call, answer: Any, before: Sequence[Call]) -> tuple[Status, str]:
        try:
            with torch.random.fork_rng(devices=[]):
                got, want = _value(case, answer, watched=True), _value(case, self.reference)
                if found := self._difference(got, want):
                    return "wrong", self._mistake(case, got, want, before) or found
        except WrongAnswer as diagnosis:
            return "wrong", str(diagnosis)
        except (Exception, SystemExit) as error:
            raised = describe_raised(error, answer)
            if raised.is_stub:
                return "not attempted", ""
            return "error", f"your code raised {raised}"
        return "passed", ""

    def _difference(self, got: Any, want: Any) -> str | None:
        return difference(got, want, rtol=self.rtol, atol=self.atol, exact_kind=self.kind)

    def _mistake(self, case: Call, got: Any, want: Any, before: Sequence[Call]) -> str | None:
        """Return the message of the declared mistake that gives the value an answer gave.

        A mistake that fails in a call `before`, where the answer was right, is another one.
        """
        for message, implementation in self.mistakes.items():
            if self._explains(case, implementation, got, want) and all(
                self._is_right(call, implementation) for call in before
            ):
                return message
        return None

    def _explains(self, case: Call, implementation: Any, got: Any, want: Any) -> bool:
        """Tell whether a mistake gives what the answer gave, and not the right value."""
        try:
            wrong = _value(case, implementation)
        except Exception:  # the answer did not fail here, so this is not what it does
            return False
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        # A mistake in values is the same mistake in float64 or in a list.
        if value_difference(wrong, want, **tolerances):
            return value_difference(got, wrong, **tolerances) is None
        return self._difference(wrong, want) is not None and self._difference(got, wrong) is None

    def _is_right(self, case: Call, implementation: Any) -> bool:
        try:
            return not self._difference(_value(case, implementation), _value(case, self.reference))
        except Exception:
            return False


def _calls(description: str, case: Case) -> Iterator[tuple[str, Call]]:
    """Yield the calls of a case, and what each is called in a diagnosis."""
    if not isinstance(case, Sequence):
        yield description, case
        return
    for number, one in enumerate(case, start=1):
        yield f"{description}, call {number} of {len(case)}", one


def _value(case: Call, candidate: Any, *, watched: bool = False) -> Any:
    """Try a candidate from a fixed random state, here or in the answer's own process."""
    torch.manual_seed(0)
    if seed := getattr(type(candidate), "seed_remote", None):
        seed(candidate, 0)
    value = _call(case, candidate, watched) if isinstance(case, Args) else case(candidate)
    return list(islice(value, _MOST_ITEMS)) if isinstance(value, Iterator) else value


def _call(case: Args, candidate: Any, watched: bool) -> Any:
    """Call a candidate with copies of the arguments; a watched one may not change them."""
    positional, named = copied(case.positional), copied(case.named)
    value = candidate(*positional, **named)
    if watched:
        places = [
            (f"argument {i + 1}", *pair)
            for i, pair in enumerate(zip(case.positional, positional, strict=True))
        ]
        places += [(f"argument `{key}`", case.named[key], named[key]) for key in named]
        for place, before, after in places:
            expect(_same(before, after), f"your function changes its {place} in place: copy first")
    return value


def _same(before: Any, after: Any) -> bool:
    """Tell whether an argument still holds what it held."""
    if isinstance(before, Tensor):
        return torch.equal(before, after)
    if isinstance(before, np.ndarray):
        return np.array_equal(before, after)
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(_same(before[k], after[k]) for k in before)
    compares_by_identity = type(before).__eq__ is object.__eq__  # and was copied
    return compares_by_identity or before is after or before == after
