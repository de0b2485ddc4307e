"""Work done by threads while the caller goes on: results in order, and never many at once in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Key = TypeVar("Key")
Made = TypeVar("Made")


def map_ahead(make: Callable[[Key], Made], keys: Iterable[Key], *, threads: int = 1, ahead: int = 2) -> Iterator[Made]:
    """`map(make, keys)`, computed by threads that stay up to `ahead` results in front of whoever takes them.

    Decoding, compressing and computing a network release Python's lock, so that they overlap without the cost of more
    processes. An error of `make` is raised where its result would have come; what was not begun then never is.

    Args:
        make: Called in other threads, several times at once where there is more than one.
        keys: Taken one by one, in the caller's thread.
        threads: How many.
        ahead: Results that are made or being made and not yet taken, at most.
    """
    remaining = iter(keys)
    with ThreadPoolExecutor(threads, thread_name_prefix="dermask") as pool:
        pending: deque[Future[Made]] = deque(pool.submit(make, key) for key in islice(remaining, ahead))
        try:
            while pending:
                made = pending.popleft().result()
                pending.extend(pool.submit(make, key) for key in islice(remaining, 1))
                yield made
        finally:
            for future in pending:
                future.cancel()


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
