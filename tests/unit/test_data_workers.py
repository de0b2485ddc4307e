"""Worker processes: order, memory, and what dies in them."""

from __future__ import annotations

import os
from itertools import islice

import pytest

from dermask.data import workers
from dermask.data.workers import count_processes, map_in_processes


@pytest.mark.parametrize(
    ("tasks", "asked", "expected"),
    [(0, None, 1), (0, 4, 1), (3, 4, 3), (9, 4, 4), (63, None, 1), (127, None, 1), (128, None, 2), (9999, None, 8)],
)
def test_processes_as_asked_for_or_by_the_number_of_tasks(monkeypatch, tasks, asked, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert count_processes(tasks, asked) == expected


def half(number: int) -> float:
    return number / 2


def half_or_die(number: int) -> float:
    if number in (11, 12, 40):
        os._exit(9)
    return number / 2


def minus(number: int) -> float:
    return -float(number)


def fail(number: int) -> float:
    raise ZeroDivisionError(f"at {number}")


def test_one_process_is_this_one_and_takes_a_task_when_it_is_asked_for():
    begun = []
    results = map_in_processes(begun.append, range(10), died=begun.append, processes=1)
    assert list(islice(results, 3)) == [None] * 3
    assert begun == [0, 1, 2]


@pytest.mark.slow
def test_results_come_in_order_and_only_a_few_tasks_wait(monkeypatch):
    begun = 0

    def submit(*arguments):
        nonlocal begun
        begun += 1
        return real(*arguments)

    real = workers._submit
    monkeypatch.setattr(workers, "_submit", submit)
    results = map_in_processes(half, range(500), died=minus, processes=2)
    assert next(results) == 0
    assert begun == 6
    assert [0.0, *results] == [number / 2 for number in range(500)]


@pytest.mark.slow
def test_who_dies_takes_no_other_task_along():
    results = list(map_in_processes(half_or_die, range(200), died=minus, processes=2))
    assert results == [-float(number) if number in (11, 12, 40) else number / 2 for number in range(200)]


@pytest.mark.slow
def test_an_error_ends_the_work():
    with pytest.raises(ZeroDivisionError, match="at 0"):
        list(map_in_processes(fail, range(50), died=minus, processes=2))
