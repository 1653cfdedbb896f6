"""The peak memory of a block of code."""

from __future__ import annotations

import atexit
import gc
import sys
import threading

import psutil
import torch

from unet_segmentation.utils.memory import trim_memory

POLL_SECONDS = 0.05  # polling takes less than a hundredth of a core


class PeakMemory:
    """Measures the peak memory of a block: on a GPU by torch, else on Linux by polling.

    On a CPU it is the growth of the process's anonymous memory, so that memory-mapped files do not count. What torch
    keeps from one block to the next is released before.

    Attributes:
        mib: in MiB; None where it cannot be measured.
    """

    def __init__(self) -> None:
        self.mib: float | None = None
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._before, self._peak = 0, 0

    def __enter__(self) -> PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform.startswith("linux"):
            trim_memory()
            gc.freeze()  # the program itself: the next collection does not search it again
            atexit.register(gc.unfreeze)  # libraries complain at exit about what was not collected
            self._before = self._peak = self._anonymous_bytes()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            self.mib = torch.cuda.max_memory_allocated() / 2**20
        elif self._thread.is_alive():
            self._ended.set()
            self._thread.join()
            self.mib = (self._peak - self._before) / 2**20

    def _poll(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            self._peak = max(self._peak, self._anonymous_bytes())

    def _anonymous_bytes(self) -> int:
        """Return the resident memory that no file backs."""
        memory = self._process.memory_info()
        return int(memory.rss - memory.shared)
