"""Decoded images and masks in flat files, read through memory maps: a crop reads the rows it needs, no more.

Samples are packed in parts of some hundreds. A part is a folder that holds

* ``images.bin``: the images one after the other, each (height, width, channels) in C order, at native depth;
* ``masks.bin``: the masks one after the other, each (height, width), uint8 class ids, 255 = ignored;
* ``table.npy``: int64 (samples, 7): number of the part (0 here), byte offset of the image, byte offset of the mask,
  height, width, channels, bytes per value;
* ``packed.json``: format version, dtype, channels and the samples' ids in the table's order. Written last.

A packed folder is such a part, or it joins several: its ``packed.json`` names their folders, its ``table.npy`` holds
the rows of all. A part is written atomically, so that a run that was killed continues with the next part.

Why this and not zarr or blosc2: ``docs/benchmarks.md`` and ``benchmarks/packed_storage.py``.
"""

from __future__ import annotations

import json
import mmap
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.errors import DataError
from unet_segmentation.utils.atomic_io import atomic_write

FORMAT = 2
DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("uint8"), 2: np.dtype("uint16")}  # by bytes per value
OPEN_MAPS = 256  # each keeps a file open, and systems limit how many a process may have
EVERYTHING = slice(None)


class _Header(TypedDict):
    format: int
    dtype: str
    channels: int
    parts: list[str]
    sample_ids: list[str]


Image = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.uint8]


class PackedSamples:
    """Random access to packed samples.

    Holds a path and, in each process from the first access on, the table and the memory maps. Pickles and copies
    as the path alone. What it returns are copies in memory of their own: they may be written to.
    """

    def __init__(self, folder: Path) -> None:
        """Open a packed folder; nothing is read yet."""
        self.folder = Path(folder)

    def __getstate__(self) -> dict[str, Path]:
        """Pickle the path only: memory maps belong to one process."""
        return {"folder": self.folder}

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._positions

    def __repr__(self) -> str:
        return f"PackedSamples({str(self.folder)!r})"

    @property
    def sample_ids(self) -> list[str]:
        """Ids of the samples in the order in which they were packed."""
        return self._header["sample_ids"]

    @property
    def channels(self) -> int:
        """Channels of every image that `image` returns."""
        return self._header["channels"]

    @property
    def dtype(self) -> np.dtype:
        """Depth of the images: uint8 or uint16."""
        return np.dtype(self._header["dtype"])

    @property
    def parts(self) -> list[Path]:
        """Folders that hold the pixels."""
        return [self.folder / name for name in self._header["parts"]]

    @cached_property
    def table(self) -> NDArray[np.int64]:
        """Table with a row per sample; see the docstring of the module."""
        return np.load(self.folder / "table.npy")

    def is_whole(self) -> bool:
        """Return whether the folder is there and its files are as long as the table says."""
        try:
            ends = np.zeros((len(self.parts), 2), np.int64)
            table = self.table
            pixels = table[:, 3] * table[:, 4]
            np.maximum.at(ends[:, 0], table[:, 0], table[:, 1] + pixels * table[:, 5] * table[:, 6])
            np.maximum.at(ends[:, 1], table[:, 0], table[:, 2] + pixels)
            sizes = [[(part / name).stat().st_size for name in ("images.bin", "masks.bin")] for part in self.parts]
        except (DataError, OSError, ValueError, KeyError, IndexError):
            return False
        return sizes == ends.tolist() and len(table) == len(self)

    def shape(self, sample_id: str) -> tuple[int, int, int]:
        """Return (height, width, channels) of a sample."""
        _, _, _, height, width, _, _ = self._row(sample_id)
        return height, width, self.channels

    def image(self, sample_id: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Image:
        """Read an image or a part of it: (height, width, channels) in native depth.

        A gray image among color images has its channel repeated.
        """
        part, offset, _, height, width, channels, depth = self._row(sample_id)
        view = np.ndarray((height, width, channels), DTYPES[depth], self._map(part, "images.bin"), offset)
        view = view[rows, columns]
        return view.repeat(self.channels, axis=2) if channels < self.channels else view.copy()

    def mask(self, sample_id: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Mask:
        """Read a mask or a part of it: (height, width) uint8, class ids, 255 = ignored."""
        part, _, offset, height, width, _, _ = self._row(sample_id)
        return np.ndarray((height, width), np.uint8, self._map(part, "masks.bin"), offset)[rows, columns].copy()

    def _row(self, sample_id: str) -> list[int]:
        return self.table[self._positions[sample_id]].tolist()

    @cached_property
    def _header(self) -> _Header:
        try:
            header: _Header = json.loads((self.folder / "packed.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{self.folder} holds no packed samples. Run the preparation pipeline first.") from None
        if header["format"] != FORMAT:
            raise DataError(f"{self.folder} was packed by another version. Run the preparation pipeline again.")
        return header

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {sample_id: position for position, sample_id in enumerate(self.sample_ids)}

    @cached_property
    def _maps(self) -> OrderedDict[tuple[int, str], mmap.mmap]:
        return OrderedDict()

    def _map(self, part: int, name: str) -> mmap.mmap:
        """Return the memory map of one file; the least recently used ones are closed."""
        mapped = self._maps.pop((part, name), None)
        if mapped is None:
            with (self.parts[part] / name).open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps[part, name] = mapped
        if len(self._maps) > OPEN_MAPS:
            self._maps.popitem(last=False)
        return mapped


class PackedWriter:
    """Writes the samples of one part one by one; memory does not grow with their number (but for the table).

    Use it as a context manager on a new folder, inside ``atomic_write``: the header is written on a clean exit only,
    so that a folder without one is unfinished.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folder and open its files."""
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sample_ids: list[str] = []
        self._rows: list[tuple[int, ...]] = []
        self._images = (self.folder / "images.bin").open("wb")
        self._masks = (self.folder / "masks.bin").open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._images, self._masks:  # closes both, also where closing the first fails on a full disk
            pass
        if kind is None:
            _write_header(self.folder, ["."], self._sample_ids, np.array(self._rows, np.int64).reshape(-1, 7))

    def add(self, sample_id: str, image: Image, mask: Mask) -> None:
        """Append an image, (height, width[, channels]) uint8 or uint16, and a mask, (height, width) uint8.

        Raises:
            ValueError: the shapes or the dtypes do not fit.
        """
        image = image[:, :, None] if image.ndim == 2 else image
        if image.dtype not in DTYPES.values():
            raise ValueError(f"{sample_id}: cannot pack {image.dtype}, only uint8 and uint16")
        if image.shape[:2] != mask.shape or mask.dtype != np.uint8:
            raise ValueError(f"{sample_id}: image {image.shape} and mask {mask.shape} {mask.dtype} do not fit")
        self._sample_ids.append(sample_id)
        places = self._images.tell(), self._masks.tell()
        self._rows.append((0, *places, *image.shape, image.dtype.itemsize))
        self._images.write(np.ascontiguousarray(image).data)
        self._masks.write(np.ascontiguousarray(mask).data)


def join_parts(folder: Path, parts: Sequence[Path]) -> PackedSamples:
    """Write header and table of an existing folder over parts in the order of their samples; no pixel is read."""
    packed = [PackedSamples(part) for part in parts]
    tables = [np.column_stack([np.full(len(part), number), part.table[:, 1:]]) for number, part in enumerate(packed)]
    table = np.concatenate(tables) if tables else np.zeros((0, 7), np.int64)
    sample_ids = [sample_id for part in packed for sample_id in part.sample_ids]
    _write_header(folder, [os.path.relpath(part, folder) for part in parts], sample_ids, table)
    return PackedSamples(folder)


def pack(folder: Path, samples: Mapping[str, tuple[Image, Mask]]) -> PackedSamples:
    """Pack samples that are in memory (image and mask by sample id) into a folder, which is replaced if it exists."""
    with atomic_write(folder) as temporary, PackedWriter(temporary) as writer:
        for sample_id, (image, mask) in samples.items():
            writer.add(sample_id, image, mask)
    return PackedSamples(folder)


def _write_header(folder: Path, parts: list[str], sample_ids: list[str], table: NDArray[np.int64]) -> None:
    np.save(folder / "table.npy", table)
    header: _Header = {
        "format": FORMAT,
        "dtype": str(DTYPES[int(table[:, 6].max(initial=1))]),
        "channels": int(table[:, 5].max(initial=1)),
        "parts": [Path(part).as_posix() for part in parts],
        "sample_ids": sample_ids,
    }
    (folder / "packed.json").write_text(json.dumps(header), encoding="utf-8")
