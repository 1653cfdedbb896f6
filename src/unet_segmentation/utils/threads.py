"""Threads that read and write while a network computes, or that wait for servers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

GRACE = 2.0  # seconds that threads have to end by themselves once they are stopped

THREADS = 2
QUEUE_SIZE = 4  # items that may wait

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(Exception):
    """This thread was stopped, because another failed or the user interrupted."""


def in_threads(work: Callable[[Item, threading.Event], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Do the same work on several items at a time. The first failure, or Ctrl-C, stops all.

    A thread that waits for a silent server cannot be woken. So that nobody waits for it, the threads are daemons: they
    end with the process, which the threads of an executor do not.

    Args:
        work: takes an item, and an event to check whenever it can: once that is set, it must end.
        items: the results are in their order.
        threads: how many items at a time.
    """
    stop = threading.Event()
    numbers = iter(range(len(items)))  # shared: each thread takes the next
    done: SimpleQueue[tuple[int, Result | None, BaseException | None]] = SimpleQueue()

    def serve() -> None:
        for number in numbers:
            if stop.is_set():
                return
            try:
                done.put((number, work(items[number], stop), None))
            except BaseException as error:
                done.put((number, None, error))

    started = [threading.Thread(target=serve, daemon=True) for _ in range(min(threads, len(items)))]
    results: dict[int, Result] = {}
    try:
        for thread in started:
            thread.start()
        for _ in items:
            number, result, error = done.get()
            if error is not None:
                raise error
            results[number] = result  # type: ignore[assignment]
    finally:
        stop.set()
        for thread in started:
            thread.join(GRACE / len(started))
    return [results[number] for number in range(len(items))]


def prefetch_map(
    work: Callable[..., Result], items: Iterable[tuple[Any, ...]], threads: int = THREADS
) -> Generator[Result]:
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
