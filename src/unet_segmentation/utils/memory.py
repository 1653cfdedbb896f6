"""How the process keeps memory between images."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
KEPT = 64 << 20  # bytes


def tune_malloc() -> None:
    """Let freed arrays be used again instead of being given back to the system and asked for anew.

    By default glibc maps arrays of the size of an image page by page for each one, in every thread: decoding many
    images with threads spent as long on page faults as on decoding (measured: 1.7 times as many images a second
    with this). Elsewhere (macOS, Windows, musl) nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, KEPT // 2)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def trim_memory() -> None:
    """Return what was freed back to the system, so that the tables of one node do not add to those of the next."""
    gc.collect()
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # no glibc
            ctypes.CDLL(None).malloc_trim(0)


class MemoryWatch:
    """Gives memory back where a worthwhile amount came together: to look through all objects takes a third of a second.

    Attributes:
        held: bytes that the process held at its least since memory was last given back.
    """

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self.held = self._resident()

    def look(self) -> bool:
        """Return memory back if the process has grown by more than may be kept; tell whether it was done."""
        self.held = min(self.held, self._resident())
        if self._resident() - self.held <= KEPT:
            return False
        trim_memory()
        self.held = self._resident()
        return True

    def _resident(self) -> int:
        return self._process.memory_info().rss
