"""One function over many photographs in worker processes: results in order, in flat memory, whoever dies.

A worker that dies, as one does that the system kills for its memory, takes no other photograph with it: what was in
hand is done again one by one in a worker of its own, and the photograph that kills its worker a second time is told.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from dermask.threads import num_cores

T = TypeVar("T")
R = TypeVar("R")

WORKER_DIED = "the process that looked at it died, perhaps for want of memory"
"""What to say of a photograph whose worker died over it alone."""

_CHUNK = 8  # tasks a worker takes at once: little to repeat when one dies, little talk between processes
_MIN_PER_PROCESS = 64  # below this, starting a further process costs more than it saves


def count_processes(tasks: int, processes: int | None = None) -> int:
    """How many processes to start for that many tasks: as asked for, else one for each CPU there is, fewer for few."""
    if processes is not None:
        return max(min(processes, tasks), 1)
    return max(min(num_cores(), tasks // _MIN_PER_PROCESS), 1)


def map_in_processes(
    function: Callable[[T], R], tasks: Sequence[T], *, died: Callable[[T], R], processes: int | None = None
) -> Iterator[R]:
    """`function` of each task, in order.

    Processes are started afresh, which is the same on every system; a script that lets more than one start guards its
    own code by ``__name__ == "__main__"``. Only a few tasks wait at any time, so that memory does not grow with them.

    Args:
        function: What to do; importable, and its results can be pickled.
        tasks: What to do it with.
        died: The result of a task whose process dies over it.
        processes: How many; 1 works in this process, None is as `count_processes` says.
    """
    processes = count_processes(len(tasks), processes)
    if processes == 1:
        yield from map(function, tasks)
        return
    chunks = (tasks[start : start + _CHUNK] for start in range(0, len(tasks), _CHUNK))
    while at_first := list(islice(chunks, 3 * processes)):  # again only where a worker died
        with _pool(processes) as pool:
            running = deque((chunk, _submit(pool, function, chunk)) for chunk in at_first)
            is_broken = False
            while running:
                chunk, future = running.popleft()
                try:
                    results = future.result()
                except BrokenProcessPool:
                    is_broken = True
                    results = _one_by_one(function, chunk, died)
                yield from results
                # Once broken, nothing more is begun: what was in hand is alone then, with all the memory there is.
                running += [(more, _submit(pool, function, more)) for more in islice(chunks, 0 if is_broken else 1)]


def _submit(pool: ProcessPoolExecutor, function: Callable[[T], R], chunk: Sequence[T]) -> Future[list[R]]:
    try:
        return pool.submit(_each, function, chunk)
    except BrokenProcessPool as error:
        lost: Future[list[R]] = Future()
        lost.set_exception(error)
        return lost


def _one_by_one(function: Callable[[T], R], chunk: Sequence[T], died: Callable[[T], R]) -> list[R]:
    """Each task alone in a worker, a new one behind each that dies."""
    results: list[R] = []
    while len(results) < len(chunk):
        with _pool(1) as pool:
            for task in chunk[len(results) :]:
                try:
                    results.append(pool.submit(function, task).result())
                except BrokenProcessPool:
                    results.append(died(task))
                    break
    return results


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that begin nothing more when they are left."""
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _each(function: Callable[[T], R], tasks: Sequence[T]) -> list[R]:
    return [function(task) for task in tasks]
