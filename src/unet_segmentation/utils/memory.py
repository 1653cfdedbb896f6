"""The memory of the process: how it is used again between images, returned to the system, and measured."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import sys
import threading
from typing import Self

IS_LINUX = sys.platform.startswith("linux")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
HELD_BYTES = 64 << 20  # that are not returned to the system
POLL_SECONDS = 0.05  # polling takes less than a hundredth of a core


def tune_malloc() -> None:
    """Make malloc use freed arrays again instead of returning them to the system.

    By default glibc maps arrays of the size of an image page by page for each one, in every thread: decoding many
    images with threads spent as long on page faults as on decoding (measured: 1.7 times as many images a second
    with this). Elsewhere (macOS, Windows, musl) nothing is changed.
    """
    if not IS_LINUX:
        return
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, HELD_BYTES // 2)
        mallopt(M_TRIM_THRESHOLD, HELD_BYTES)


def trim_memory() -> None:
    """Return freed memory to the system, so that the tables of one node do not add to those of the next."""
    gc.collect()
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    if IS_LINUX:
        with contextlib.suppress(OSError, AttributeError):  # no glibc
            ctypes.CDLL(None).malloc_trim(0)


class MemoryWatch:
    """Trims memory once enough has come together: to search all objects takes a third of a second."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self._least = self._resident()  # bytes held since memory was last trimmed

    def trim_if_grown(self) -> bool:
        """Trim memory if the process has grown by more than `HELD_BYTES`; return whether it was trimmed."""
        self._least = min(self._least, self._resident())
        if self._resident() - self._least <= HELD_BYTES:
            return False
        trim_memory()
        self._least = self._resident()
        return True

    def _resident(self) -> int:
        return self._process.memory_info().rss


class PeakMemory:
    """Measures the peak memory of a block: on a GPU by torch, else on Linux by polling.

    On a CPU it is the growth of the process's anonymous memory, so that memory-mapped files do not count. What torch
    keeps from one block to the next is released before.

    Attributes:
        mib: in MiB; None where it cannot be measured.
    """

    def __init__(self) -> None:
        import psutil

        self.mib: float | None = None
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._before, self._peak = 0, 0

    def __enter__(self) -> Self:
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif IS_LINUX:
            trim_memory()
            gc.freeze()  # the program itself: the next collection does not search it again
            atexit.register(gc.unfreeze)  # libraries complain at exit about what was not collected
            self._before = self._peak = self._anonymous_bytes()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        import torch

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
