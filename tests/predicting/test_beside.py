"""Work beside the caller: in order, few at a time."""

import threading
import time

import pytest

from unet_segmentation.predicting.beside import AHEAD, beside


def test_results_come_in_order_whatever_takes_longest():
    waits = [0.03, 0.0, 0.02, 0.0, 0.01, 0.0, 0.0]
    found = list(beside(lambda number, wait: time.sleep(wait) or number, enumerate(waits)))
    assert found == list(range(len(waits)))


def test_few_are_taken_ahead():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield (number,)

    for number in beside(lambda number: number, items()):
        assert len(taken) <= number + AHEAD + 2


def test_an_error_reaches_the_caller_and_threads_end():
    before = threading.active_count()
    with pytest.raises(ValueError, match="2"):
        list(beside(lambda number: int("2" * number, 2), ((number,) for number in range(5))))
    assert threading.active_count() == before
