"""Work that threads do ahead: in order, bounded, and gone when nobody takes it."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermask.threads import map_ahead, num_cores

COUNTS = st.integers(1, 4)


@given(st.lists(st.integers()), COUNTS, COUNTS)
def test_is_map(keys, threads, ahead):
    assert list(map_ahead(str, keys, threads=threads, ahead=ahead)) == [str(key) for key in keys]


def test_order_holds_where_later_ones_are_ready_first():
    def slow_first(number):
        time.sleep(0.05 if number == 0 else 0)
        return number

    assert list(map_ahead(slow_first, range(8), threads=3, ahead=4)) == list(range(8))


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_stays_a_few_in_front(ahead):
    made = []
    results = map_ahead(made.append, range(100), threads=2, ahead=ahead)
    next(results)
    time.sleep(0.05)
    assert len(made) <= 1 + ahead


def test_several_work_at_once():
    together = threading.Barrier(3, timeout=10)
    assert len(list(map_ahead(lambda _: together.wait(), range(3), threads=3, ahead=3))) == 3


def test_an_error_arrives_in_its_turn():
    results = map_ahead(lambda number: 1 // number, [1, 1, 0, 1])
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_after_an_error_nothing_more_is_begun():
    begun = []

    def fail(number):
        begun.append(number)
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        list(map_ahead(fail, range(100)))
    assert len(begun) <= 3


def test_stopping_early_ends_the_threads():
    results = map_ahead(str, range(100), threads=3, ahead=4)
    next(results)
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dermask")]


def test_there_is_at_least_one_core():
    assert num_cores() >= 1
