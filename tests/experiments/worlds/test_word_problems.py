"""Problems in words and small programs say what is true."""

import random
import re

import pytest

from llmlib.experiments.worlds.word_problems import (
    GAINS,
    LARGEST,
    LARGEST_CHANGE,
    changes,
    problem,
    program,
)


def test_changes_stay_in_range_and_change_something():
    for seed in range(300):
        first, steps = changes(random.Random(seed))
        values = [first, *(after for _, after in steps)]
        assert 2 <= len(steps) <= 4
        assert all(0 <= value <= LARGEST for value in values)
        for (change, _), before, after in zip(steps, values[:-1], values[1:], strict=True):
            assert change == after - before
            assert 0 < abs(change) <= LARGEST_CHANGE


def test_problems_of_changes_are_right():
    rng = random.Random(0)
    for _ in range(300):
        drawn = problem(rng, "changes")
        first = re.match(r"(\w+) has (\d+) \w+ \.", drawn.text)
        assert first
        value = int(first[2])
        steps = re.findall(rf" {first[1]} (\w+) (\d+) and has (\d+) \.", drawn.text)
        assert len(steps) == len(drawn.results)
        for (verb, change, after), result in zip(steps, drawn.results, strict=True):
            value += int(change) if verb in GAINS else -int(change)
            assert value == int(after) == int(result)


def test_the_larger_pile_is_the_larger_one():
    rng = random.Random(1)
    for _ in range(300):
        drawn = problem(rng, "larger")
        *told, result = map(int, re.findall(r"\d+", drawn.text))
        assert result == max(told) == int(drawn.results[0])
        assert len(set(told)) == 2


def test_a_program_does_what_its_comments_say():
    rng = random.Random(3)
    for _ in range(300):
        holds: dict[str, int] = {}
        for line in program(rng):
            code, _, comment = line.partition(" # ")
            name, operator, *right = code.split()
            if right[0] == "max":
                assert {right[2], right[4]} == set(holds)
                value = max(holds.values())
            elif operator == "=":
                value = int(right[0])
            else:
                value = holds[name] + int(operator[0] + right[0])
            assert comment == ("" if len(right) == 1 and operator == "=" else str(value))
            holds[name] = value


def test_a_program_without_comments_is_the_same_program():
    for seed in range(50):
        full = program(random.Random(seed))
        bare = program(random.Random(seed), comments=False)
        assert bare == [line.partition(" # ")[0] for line in full]


@pytest.mark.parametrize("kind", ["changes", "larger"])
def test_a_problem_is_words_apart_by_spaces(kind):
    text = problem(random.Random(4), kind).text
    assert text.endswith(" .")
    assert all(re.fullmatch(r"\w+|\.", word) for word in text.split(" "))
