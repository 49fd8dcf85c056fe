"""A batch that grows: its sizes by hand, its place after a stop, and settings that are refused."""

import json
from dataclasses import asdict
from typing import Any

import pytest

from llmlib.training.batches.ramp import BatchRamp

LINEAR = BatchRamp(points=((0, 2), (700, 9), (1700, 9), (2000, 12)))


@pytest.mark.covers("train.batch")
def test_a_line_is_followed_from_below() -> None:
    # A micro-batch more every hundred tokens, a plateau, and again a line.
    expected = {0: 2, 99: 2, 100: 3, 650: 8, 699: 8, 700: 9, 1234: 9, 1799: 9, 1800: 10, 2000: 12}
    assert {tokens: LINEAR.micro_batches(tokens) for tokens in expected} == expected
    assert LINEAR.micro_batches(10**15) == 12


@pytest.mark.covers("train.batch")
def test_gpt3_by_hand() -> None:
    """32 thousand tokens to 3.2 million over 12 billion: a micro-batch has 32 thousand here."""
    ramp = BatchRamp(points=((0, 1), (12 * 10**9, 100)))
    # Half way stands 50.5; a hundredth part of the way is 1.99.
    at = {0: 1, 12 * 10**7: 1, 6 * 10**9: 50, 12 * 10**9 - 1: 99, 12 * 10**9: 100}
    assert {tokens: ramp.micro_batches(tokens) for tokens in at} == at


def test_steps_hold_until_the_next_point() -> None:
    ramp = BatchRamp(points=((0, 3), (11, 6), (53, 12)), growth="steps")
    expected = {0: 3, 10: 3, 11: 6, 52: 6, 53: 12, 997: 12}
    assert {tokens: ramp.micro_batches(tokens) for tokens in expected} == expected


def test_the_size_depends_on_tokens_alone() -> None:
    """A run that was cut asks with the tokens of its checkpoint and goes on as if it was not."""

    def sizes(tokens: int, updates: int) -> list[tuple[int, int]]:
        made = []
        for _ in range(updates):
            made.append((tokens, LINEAR.micro_batches(tokens)))
            tokens += 7 * made[-1][1]
        return made

    straight = sizes(0, 61)
    assert sizes(*(straight[23][0], 38)) == straight[23:]
    assert {size for _, size in straight} == set(range(2, 13))


def test_a_ramp_is_written_as_json() -> None:
    """A checkpoint's manifest holds it, and a run with another ramp is refused by it."""
    again = json.loads(json.dumps(asdict(LINEAR)))
    assert again == {"points": [[0, 2], [700, 9], [1700, 9], [2000, 12]], "growth": "linear"}


@pytest.mark.parametrize(
    ("points", "growth", "message"),
    [
        ((), "linear", "first point stands at 0 tokens"),
        (((5, 1),), "linear", "first point stands at 0 tokens"),
        (((0, 1), (7, 2), (7, 3)), "steps", "each other one later"),
        (((0, 1), (7, 0)), "linear", "one micro-batch or more"),
        (((0, 1),), "cubic", "growth"),
    ],
)
def test_what_is_no_ramp_is_refused(points: Any, growth: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):  # beartype may come first
        BatchRamp(points=points, growth=growth)


@pytest.mark.parametrize("points", [((0, 1), (12e9, 7)), ((0, 1.5),), ((0, 1), (float("nan"), 7))])
def test_what_cannot_be_counted_is_refused(points: Any):
    ramp = BatchRamp(points=((0, 1),))
    object.__setattr__(ramp, "points", points)  # what the tests' type checker would refuse first
    with pytest.raises(ValueError, match="whole numbers"):
        ramp.__post_init__()


def test_no_run_has_learned_from_less_than_nothing():
    with pytest.raises(ValueError, match="tokens=-1"):
        BatchRamp(points=((0, 1), (101, 7))).micro_batches(-1)
