"""How the process holds memory between images."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
HELD_BYTES = 64 << 20  # that are not returned to the system


def tune_malloc() -> None:
    """Make malloc use freed arrays again instead of being returned to the system and requested again.

    By default glibc maps arrays of the size of an image page by page for each one, in every thread: decoding many
    images with threads spent as long on page faults as on decoding (measured: 1.7 times as many images a second
    with this). Elsewhere (macOS, Windows, musl) nothing is changed.
    """
    if not sys.platform.startswith("linux"):
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
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):  # no glibc
            ctypes.CDLL(None).malloc_trim(0)


class MemoryWatch:
    """Trims memory once enough has come together: to search all objects takes a third of a second.

    Attributes:
        held: the fewest bytes that the process has held since memory was last trimmed.
    """

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self.held = self._resident()

    def look(self) -> bool:
        """Trim memory if the process has grown by more than `HELD_BYTES`; return whether it was trimmed."""
        self.held = min(self.held, self._resident())
        if self._resident() - self.held <= HELD_BYTES:
            return False
        trim_memory()
        self.held = self._resident()
        return True

    def _resident(self) -> int:
        return self._process.memory_info().rss
