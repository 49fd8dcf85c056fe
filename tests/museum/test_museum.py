"""Each exhibit's check finds its fault and passes the library."""

from collections import Counter
from dataclasses import replace

import pytest

from museum import rooms
from museum.exhibit import Exhibit

EXHIBITS = [exhibit for _, exhibits in rooms() for exhibit in exhibits]
each = pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)


OF_TRAINING = [
    pytest.param(exhibit, id=exhibit.name)
    for room, exhibits in rooms()
    for exhibit in exhibits
    if room in ("training", "parallelism") and exhibit.threads
]


@each
def test_the_check_finds_the_fault(exhibit: Exhibit) -> None:
    with pytest.raises(AssertionError):
        exhibit.check(exhibit.faulty)


@each
def test_the_library_passes_the_check(exhibit: Exhibit) -> None:
    exhibit.check(exhibit.sound)


@each
def test_the_fault_looks_right(exhibit: Exhibit) -> None:
    exhibit.plausible(exhibit.faulty)
    exhibit.plausible(exhibit.sound)


def test_no_name_stands_twice() -> None:
    assert [n for n, count in Counter(e.name for e in EXHIBITS).items() if count > 1] == []


@pytest.mark.covers("train.museum")
@pytest.mark.parametrize("exhibit", OF_TRAINING)
def test_a_reported_fault_of_training_looks_right_and_is_found(exhibit: Exhibit) -> None:
    exhibit.plausible(exhibit.faulty)
    with pytest.raises(AssertionError):
        exhibit.check(exhibit.faulty)
    exhibit.check(exhibit.sound)


@pytest.mark.covers("train.museum")
def test_at_least_ten_faults_of_training_were_reported() -> None:
    assert len(OF_TRAINING) >= 10


def test_at_least_eight_were_shipped_by_known_projects() -> None:
    assert sum(bool(exhibit.threads) for exhibit in EXHIBITS) >= 8


def test_a_thread_has_a_repository_and_a_number() -> None:
    with pytest.raises(ValueError, match="is no owner/repository#number"):
        replace(EXHIBITS[0], threads=("somewhere",))
