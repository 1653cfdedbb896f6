"""Work beside the caller: in order, few at a time."""

import threading
import time

import pytest

from unet_segmentation.utils.threads import QUEUE_SIZE, prefetch_map


def test_results_come_in_order_whatever_takes_longest():
    waits = [0.03, 0.0, 0.02, 0.0, 0.01, 0.0, 0.0]
    result = list(prefetch_map(lambda number, wait: time.sleep(wait) or number, enumerate(waits)))
    assert result == list(range(len(waits)))


def test_few_are_taken_ahead():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield (number,)

    for number in prefetch_map(lambda number: number, items()):
        assert len(taken) <= number + QUEUE_SIZE + 2


def test_an_error_reaches_the_caller_and_threads_end():
    before = threading.active_count()
    with pytest.raises(ValueError, match="2"):
        list(prefetch_map(lambda number: int("2" * number, 2), ((number,) for number in range(5))))
    assert threading.active_count() == before
