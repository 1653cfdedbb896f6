"""The finished rows of a raster, next to its result, so that a run that was killed resumes inside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.utils.atomic_io import atomic_write, remove

SHARE = 0.02  # of the time that keeping the state may take
FORMAT = 2  # of the checkpoint; another one is removed

State = dict[str, NDArray[Any]]
Record = TypeVar("Record")


def pack(prefix: str, record: Any) -> State:  # noqa: ANN401 - any dataclass of arrays and numbers
    """Return the fields of a dataclass of arrays and numbers as part of a state."""
    return {f"{prefix}.{field.name}": np.asarray(getattr(record, field.name)) for field in fields(record)}


def unpack(prefix: str, record: type[Record], state: State) -> Record:
    """Build the dataclass that `pack` was given."""
    values = {field.name: state[f"{prefix}.{field.name}"] for field in fields(record)}  # type: ignore[arg-type]
    return record(**{name: value if value.ndim else value.item() for name, value in values.items()})


def folder_of(target: Path) -> Path:
    """Return the folder that keeps the finished rows of a result."""
    return target.with_name(f".{target.name}.rows")


@contextmanager
def resumable_rows(target: Path, key: str) -> Iterator[RasterCheckpoint]:
    """Keep rows until a result is finished, or cannot be: what damaged data gave is of no use later.

    Args:
        target: the result.
        key: of what it depends on; what was saved under another key is removed.
    """
    checkpoint = RasterCheckpoint(target, key)
    try:
        yield checkpoint
    except DataError:
        checkpoint.remove()
        raise
    checkpoint.remove()


class RasterCheckpoint:
    """A hidden folder next to a result: of every finished row of tiles its files, and the state behind some of them."""

    def __init__(self, target: Path, key: str) -> None:
        self.folder = folder_of(target)
        self._key = json.dumps([FORMAT, key])
        self._saved, self._cost = time.perf_counter(), 0.0

    def load(self) -> State:
        """Return the state that was saved last; empty, and an empty folder, where there is none."""
        try:
            with np.load(self.folder / "state.npz") as file:
                state = dict(file)
            if str(state.pop("key")) == self._key:
                return state
        except (OSError, ValueError, KeyError, BadZipFile):  # none, or cut off with the machine's power
            pass
        self.remove()
        self.folder.mkdir(parents=True, exist_ok=True)
        return {}

    def save(self, state: Callable[[], State]) -> None:
        """Save a state, unless the last was so short ago that it would cost more than `SHARE` of the time."""
        begin = time.perf_counter()
        if self._cost > SHARE * (begin - self._saved):
            return
        with atomic_write(self.folder / "state.npz") as temporary:
            np.savez(temporary, key=np.array(self._key), **state())  # type: ignore[arg-type]
        self._saved = time.perf_counter()
        self._cost = self._saved - begin

    def path(self, output: int, row: int) -> Path:
        """Return where the copy of a finished row of tiles of one of the outputs lies."""
        return self.folder / f"{row}-{output}.tif"

    def remove(self) -> None:
        """Forget all."""
        remove(self.folder)
