"""Threads in parallel with the network: files are read before they are needed, and results written after."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

THREADS = 2
QUEUE_SIZE = 4  # items that may wait


def prefetch_map(work: Callable[..., Result], items: Iterable[tuple], threads: int = THREADS) -> Generator[Result]:
    """Yield the results of work on the parts of each item, in order; threads work while the caller does something else.

    The items are read few at a time, as the results are taken.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, *item))
            if len(waiting) > QUEUE_SIZE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
