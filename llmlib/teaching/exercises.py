"""What a student calls in a notebook: `check`, `hint` and `solution`."""

from __future__ import annotations

from typing import Any

from llmlib.core.resources import resource
from llmlib.teaching.authoring import Outcome
from llmlib.teaching.catalogue import Entry, entries, entry_of, find_exercise
from llmlib.teaching.progress import note

__all__ = ["Entry", "Outcome", "check", "entries", "evaluate", "hint", "solution"]

_shown: dict[str, int] = {}  # how many hints of each exercise this session has shown


def evaluate(name: str, answer: Any) -> Outcome:
    """Run an exercise's checks on a function or class, for programs; `check` prints for people.

    Raises:
        KeyError: If no exercise has that name.
    """
    return find_exercise(name).evaluate(answer)


def check(name: str, answer: Any) -> None:
    """Check an answer and print one verdict; never raise."""
    try:
        exercise = find_exercise(name)
    except KeyError as error:
        print(f"✗ {error.args[0]}")
        return
    outcome = exercise.evaluate(answer)
    print(verdict(outcome))
    if outcome.status == "passed":
        if problem := note(name):
            print(problem)
    elif outcome.status != "not attempted" and exercise.hints:
        print(f'  exercises.hint("{name}") gives a hint')


def verdict(outcome: Outcome) -> str:
    """Put an outcome into words: one line, and for a wrong answer also how far it got.

    Example:
        >>> print(verdict(Outcome("softmax", "passed", "", 3, 3)))
        ✓ softmax: all 3 checks passed
    """
    name = outcome.exercise
    if outcome.status == "not attempted":
        return f"… {name}: not attempted yet"
    if outcome.status == "passed":
        return f"✓ {name}: all {outcome.total} checks passed"
    text = f"✗ {name}: {outcome.message}"
    if outcome.passed:
        text += f"\n  {outcome.passed} of {outcome.total} checks passed before that"
    return text


def hint(name: str) -> None:
    """Print the next hint of an exercise; after the last one, the last again."""
    try:
        hints = find_exercise(name).hints
    except KeyError as error:
        print(f"✗ {error.args[0]}")
        return
    if not hints:
        print(f"{name} has no hints; exercises.solution({name!r}) returns the solution")
        return
    number = min(_shown.get(name, 0) + 1, len(hints))
    _shown[name] = number
    print(f"Hint {number} of {len(hints)}: {hints[number - 1]}")


def solution(name: str) -> str:
    """Return the source of an exercise's solution, to `print`.

    Raises:
        KeyError: If no exercise has that name.
        FileNotFoundError: If this version of the book carries no solution for it.
    """
    path = resource(f"solutions/{entry_of(name).chapter}/{name}.py")
    return path.read_text(encoding="utf-8")
