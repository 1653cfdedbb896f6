"""Freed arrays are used again instead of being mapped again, page by page."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
import numpy as np
from unet_segmentation.utils.memory import trim_memory, tune_malloc

if sys.argv[1] == "kept":
    tune_malloc()

def work():
    for number in range(1000):  # an image, a mask and what is made of them, all given up together
        held = [np.ones(size, np.uint8) for size in (520_000, 170_000, 90_000 + 1000 * (number % 7), 520_000)]
        del held

threads = [threading.Thread(target=work) for _ in range(2)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
trim_memory()
"""


def page_faults(mode: str) -> int:
    answer = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True)
    return int(answer.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told anything")
def test_page_faults_become_few() -> None:
    assert page_faults("kept") < page_faults("as it is") / 5


WATCHED = """
import gc, psutil
from unet_segmentation.utils.memory import MemoryWatch

gc.disable()
watch = MemoryWatch()
resident = psutil.Process().memory_info

def leave_behind(mebibytes):
    parts = [b"x" * (1 << 20) for _ in range(mebibytes)]
    parts.append(parts)  # only the collector finds it

leave_behind(10)
print(watch.trim_if_grown())
leave_behind(300)
before = resident().rss
print(watch.trim_if_grown(), before - resident().rss > 300 << 20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told anything")
def test_memory_is_given_back_where_much_came_together() -> None:
    answer = subprocess.run([sys.executable, "-c", WATCHED], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["False", "True True"]
