"""A stream through other processes: in order, lazily, and with errors that arrive."""

import os
import time
from collections.abc import Iterator

import pytest

from llmlib.core.processes.workers import Workers


def delayed_power(base: int, job: tuple[int, float]) -> tuple[int, int]:
    number, seconds = job
    time.sleep(seconds)
    return base**number, os.getpid()


def refuse_five(limit: int, number: int) -> int:
    if number == limit:
        raise ValueError(f"not {number}")
    return number


def die_at_five(limit: int, number: int) -> int:
    if number == limit:
        os._exit(7)
    return number


def test_results_keep_the_order_of_the_items_and_come_from_several_processes() -> None:
    jobs = [(number, 0.2 if number % 3 == 0 else 0.0) for number in range(11)]
    with Workers(2, shared=3) as workers:
        first = [*workers.map(delayed_power, jobs)]
        second = [*workers.map(delayed_power, jobs[:1])]
    assert [value for value, _ in first] == [3**number for number in range(11)]
    assert second[0][0] == 1
    pids = {pid for _, pid in first}
    assert len(pids) == 2 and os.getpid() not in pids


def test_a_stream_is_read_a_bounded_number_ahead() -> None:
    taken = 0

    def numbers() -> Iterator[tuple[int, float]]:
        nonlocal taken
        while True:  # it has no end
            taken += 1
            yield taken, 0.0

    with Workers(2, shared=2) as workers:
        results = workers.map(delayed_power, numbers())
        for number in range(1, 8):
            assert next(results)[0] == 2**number
            assert taken <= number + 4


def test_an_error_of_the_function_is_raised_here() -> None:
    with Workers(2, shared=5) as workers:
        results = workers.map(refuse_five, range(100))
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ValueError, match="not 5"):
            next(results)


def test_a_process_that_dies_is_an_error_and_no_wait() -> None:
    with (
        Workers(2, shared=5) as workers,
        pytest.raises(ChildProcessError, match="one of 2 processes died"),
    ):
        list(workers.map(die_at_five, range(100)))


def test_one_worker_is_this_process() -> None:
    with Workers(1, shared=2) as workers:
        ((value, pid),) = workers.map(delayed_power, [(5, 0.0)])
    assert (value, pid) == (32, os.getpid())


def test_no_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one process, not 0"):
        Workers(0, shared=None)
