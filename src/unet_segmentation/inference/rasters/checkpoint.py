"""The finished rows of a raster, next to its result, so that a run that was killed resumes inside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.utils.atomic_io import atomic_write, remove

SHARE = 0.02  # of the time that keeping the state may take
FORMAT = 1  # of the checkpoint; another one is removed

State = dict[str, NDArray]


def folder_of(target: Path) -> Path:
    """Return the folder that keeps the finished rows of a result."""
    return target.with_name(f".{target.name}.rows")


@contextmanager
def kept_rows(target: Path, key: str) -> Iterator[RasterCheckpoint]:
    """Keep rows until a result is finished, or cannot be: what damaged data gave is of no use later."""
    checkpoint = RasterCheckpoint(target, key)
    try:
        yield checkpoint
    except DataError:
        checkpoint.remove()
        raise
    checkpoint.remove()


class RasterCheckpoint:
    """A hidden folder next to a result: of every finished row of tiles its files, and the state behind some of them.

    Args:
        target: the result.
        key: of what it depends on; what was saved under another key is removed.
    """

    def __init__(self, target: Path, key: str) -> None:
        self._folder = folder_of(target)
        self._key = json.dumps([FORMAT, key])
        self._saved, self._cost = time.perf_counter(), 0.0

    def load(self) -> State:
        """Return the state that was saved last; empty, and an empty folder, where there is none."""
        try:
            with np.load(self._folder / "state.npz") as file:
                state = dict(file)
            if str(state.pop("key")) == self._key:
                return state
        except (OSError, ValueError, KeyError, BadZipFile):  # none, or cut off with the machine's power
            pass
        self.remove()
        self._folder.mkdir(parents=True, exist_ok=True)
        return {}

    def save(self, state: Callable[[], State]) -> None:
        """Save a state, unless the last was so short ago that it would cost more than `SHARE` of the time."""
        begin = time.perf_counter()
        if self._cost > SHARE * (begin - self._saved):
            return
        with atomic_write(self._folder / "state.npz") as temporary:
            np.savez(temporary, key=np.array(self._key), **state())  # type: ignore[arg-type]
        self._saved = time.perf_counter()
        self._cost = self._saved - begin

    def path(self, name: str) -> Path:
        """Return where a file of a finished row lies."""
        return self._folder / name

    def remove(self) -> None:
        """Forget all."""
        remove(self._folder)
