"""Problems of numbers told in words, and small programs that need the same steps.

A number of things goes up and down and stays from 0 to 12, or two numbers are compared. A problem
says after each step what it leads to, and so do the comments of a program. Words and signs stand
apart by spaces.
"""

import random
from dataclasses import dataclass

NAMES = ("ann", "bob", "cleo", "dan", "eve", "finn")
GOODS = ("stones", "shells", "coins", "nuts", "beads", "plums")
GAINS, LOSSES = ("finds", "buys", "wins"), ("loses", "eats", "sells")
LARGEST, LARGEST_CHANGE = 12, 5
KINDS = ("changes", "larger")


@dataclass(frozen=True)
class Problem:
    """A problem in words, of one of `KINDS`."""

    kind: str
    parts: tuple[str, ...]
    """The text in pieces, each of which ends before a result."""
    results: tuple[str, ...]
    """The result after each piece."""

    @property
    def text(self) -> str:
        """The problem with its results, a line."""
        pairs = zip(self.parts, self.results, strict=True)
        return " ".join(f"{part} {result}" for part, result in pairs) + " ."


def changes(rng: random.Random) -> tuple[int, list[tuple[int, int]]]:
    """Draw a beginning and two to four changes of at most five, each with what it leads to.

    Example:
        >>> changes(random.Random(1))
        (3, [(-2, 1), (2, 3), (-2, 1), (3, 4)])
    """
    first = value = rng.randint(1, LARGEST)
    steps = []
    for _ in range(rng.randint(2, 4)):
        change = rng.choice(
            [c for c in range(-value, LARGEST - value + 1) if 0 < abs(c) <= LARGEST_CHANGE]
        )
        value += change
        steps.append((change, value))
    return first, steps


def problem(rng: random.Random, kind: str | None = None) -> Problem:
    """Draw a problem in words, of one of `KINDS` or of either, each as likely.

    Example:
        >>> problem(random.Random(3), "changes").text
        'bob has 3 beads . bob buys 5 and has 8 . bob eats 4 and has 4 . bob sells 4 and has 0 .'
        >>> problem(random.Random(3), "larger").text
        'bob has 3 beads and eve has 6 . the larger pile has 6 .'
    """
    kind = kind or rng.choice(KINDS)
    name, other = rng.sample(NAMES, 2)
    goods = rng.choice(GOODS)
    if kind == "larger":
        a, b = rng.sample(range(1, LARGEST + 1), 2)
        told = f"{name} has {a} {goods} and {other} has {b} . the larger pile has"
        return Problem(kind, (told,), (str(max(a, b)),))
    first, steps = changes(rng)
    parts, results = [], []
    for change, value in steps:
        verb = rng.choice(GAINS if change > 0 else LOSSES)
        before = f"{name} has {first} {goods} ." if not parts else "."
        parts.append(f"{before} {name} {verb} {abs(change)} and has")
        results.append(str(value))
    return Problem(kind, tuple(parts), tuple(results))


def program(rng: random.Random, *, comments: bool = True) -> list[str]:
    """Write a small program whose comments say what each line leads to.

    Example:
        >>> program(random.Random(1))
        ['d = 8', 'c = 12', 'd = max ( d , c ) # 12']
    """
    one, two = rng.sample("bcdkmnxyz", 2)
    if rng.random() < 0.5:
        a, b = rng.sample(range(1, LARGEST + 1), 2)
        lines = [
            (f"{one} = {a}", ""),
            (f"{two} = {b}", ""),
            (f"{one} = max ( {one} , {two} )", max(a, b)),
        ]
    else:
        value, steps = changes(rng)
        lines = [(f"{one} = {value}", "")]
        lines += [(f"{one} {'+' if c > 0 else '-'}= {abs(c)}", after) for c, after in steps]
    return [f"{code} # {value}" if comments and value != "" else code for code, value in lines]
