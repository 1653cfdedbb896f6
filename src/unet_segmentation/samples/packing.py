"""Decoded images and masks in two flat files, read through memory maps: a crop reads the rows it needs, no more.

A packed folder holds

* ``images.bin``: the images one after the other, each (height, width, channels) in C order, at native depth;
* ``masks.bin``: the masks one after the other, each (height, width), uint8 class ids, 255 = ignored;
* ``table.npy``: int64 (samples, 5): byte offset of the image, byte offset of the mask, height, width, channels;
* ``packed.json``: format version, dtype, channels and the samples' ids in the table's order. Written last.

Why this and not zarr or blosc2: ``docs/preparation.md`` and ``benchmarks/packed_storage.py``.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.atomic import whole
from unet_segmentation.errors import DataError

FORMAT = 1
IGNORED = 255
DTYPES = ("uint8", "uint16")
EVERYTHING = slice(None)

Image = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.uint8]


class PackedSamples:
    """Random access to packed samples.

    Holds a path and, in each process from the first access on, the table and two memory maps. Pickles and copies
    as the path alone. What it returns are copies in memory of their own: they may be written to.

    Attributes:
        folder: where the packed files lie.
    """

    def __init__(self, folder: Path) -> None:
        """Open a packed folder; nothing is read yet."""
        self.folder = Path(folder)

    def __getstate__(self) -> dict[str, Path]:
        """Pickle the path only: memory maps belong to one process."""
        return {"folder": self.folder}

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __repr__(self) -> str:
        return f"PackedSamples({str(self.folder)!r})"

    @property
    def sample_ids(self) -> list[str]:
        """The samples in the order in which they were packed."""
        return self._header["sample_ids"]

    @property
    def channels(self) -> int:
        """Channels of every image that `image` returns."""
        return self._header["channels"]

    @property
    def dtype(self) -> np.dtype:
        """Depth of the images: uint8 or uint16."""
        return np.dtype(self._header["dtype"])

    def is_whole(self) -> bool:
        """Tell whether the folder is there and its files are as long as the table says."""
        try:
            last_image, last_mask, height, width, channels = self._table[-1].tolist() if len(self) else [0] * 5
            pixels = height * width
            sizes = [(self.folder / name).stat().st_size for name in ("images.bin", "masks.bin")]
        except (DataError, OSError, ValueError):
            return False
        return sizes == [last_image + pixels * channels * self.dtype.itemsize, last_mask + pixels]

    def shape(self, sample_id: str) -> tuple[int, int, int]:
        """Give (height, width, channels) of a sample."""
        _, _, height, width, _ = self._row(sample_id)
        return height, width, self.channels

    def image(self, sample_id: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Image:
        """Read an image or a part of it.

        Args:
            sample_id: which sample.
            rows: of the image; only these are read.
            columns: of the image.

        Returns:
            (height, width, channels) in native depth. A grey image among colour images has its channel repeated.
        """
        offset, _, height, width, channels = self._row(sample_id)
        view = np.ndarray((height, width, channels), self.dtype, self._images, offset)[rows, columns]
        return view.repeat(self.channels, axis=2) if channels < self.channels else view.copy()

    def mask(self, sample_id: str, rows: slice = EVERYTHING, columns: slice = EVERYTHING) -> Mask:
        """Read a mask or a part of it: (height, width) uint8, class ids, 255 = ignored."""
        _, offset, height, width, _ = self._row(sample_id)
        return np.ndarray((height, width), np.uint8, self._masks, offset)[rows, columns].copy()

    def _row(self, sample_id: str) -> list[int]:
        return self._table[self._positions[sample_id]].tolist()

    @cached_property
    def _header(self) -> dict[str, Any]:
        try:
            header: dict[str, Any] = json.loads((self.folder / "packed.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"{self.folder} holds no packed samples. Run the preparation pipeline first.") from None
        if header["format"] != FORMAT:
            raise DataError(f"{self.folder} was packed by another version. Run the preparation pipeline again.")
        return header

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {sample_id: position for position, sample_id in enumerate(self.sample_ids)}

    @cached_property
    def _table(self) -> NDArray[np.int64]:
        return np.load(self.folder / "table.npy")

    @cached_property
    def _images(self) -> mmap.mmap:
        return _map(self.folder / "images.bin")

    @cached_property
    def _masks(self) -> mmap.mmap:
        return _map(self.folder / "masks.bin")


class PackedWriter:
    """Writes samples one by one; memory does not grow with their number (but for the table).

    Use it as a context manager on a new folder, inside ``atomic.whole``: the header is written on a clean exit only,
    so that a folder without one is known to be unfinished.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder and open its files."""
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._dtype: np.dtype | None = None
        self._sample_ids: list[str] = []
        self._rows: list[tuple[int, int, int, int, int]] = []
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
            self._finish()

    def add(self, sample_id: str, image: Image, mask: Mask) -> None:
        """Append a sample.

        Args:
            sample_id: must be new.
            image: (height, width, channels) or (height, width), uint8 or uint16, the same for all samples.
            mask: (height, width) uint8.

        Raises:
            ValueError: the shapes or the dtype do not fit.
        """
        image = image[:, :, None] if image.ndim == 2 else image
        if image.dtype.name not in DTYPES or self._dtype not in {None, image.dtype}:
            raise ValueError(f"{sample_id}: cannot pack {image.dtype} beside {self._dtype or ' or '.join(DTYPES)}")
        if image.shape[:2] != mask.shape or mask.dtype != np.uint8:
            raise ValueError(f"{sample_id}: image {image.shape} and mask {mask.shape} {mask.dtype} do not fit")
        self._dtype = image.dtype
        self._sample_ids.append(sample_id)
        self._rows.append((self._images.tell(), self._masks.tell(), *image.shape))
        self._images.write(np.ascontiguousarray(image).data)
        self._masks.write(np.ascontiguousarray(mask).data)

    @property
    def dtype(self) -> np.dtype | None:
        """Depth of what was packed so far; None before the first sample."""
        return self._dtype

    def _finish(self) -> None:
        table = np.array(self._rows, dtype=np.int64).reshape(-1, 5)
        np.save(self.folder / "table.npy", table)
        header = {
            "format": FORMAT,
            "dtype": str(self._dtype or "uint8"),
            "channels": int(table[:, 4].max(initial=1)),
            "sample_ids": self._sample_ids,
        }
        (self.folder / "packed.json").write_text(json.dumps(header), encoding="utf-8")


def pack(folder: Path, samples: Mapping[str, tuple[Image, Mask]]) -> PackedSamples:
    """Pack samples that are in memory, for tests and small data.

    Args:
        folder: is replaced, if it exists.
        samples: image and mask by sample id, as `PackedWriter.add` takes them.
    """
    with whole(folder) as temporary, PackedWriter(temporary) as writer:
        for sample_id, (image, mask) in samples.items():
            writer.add(sample_id, image, mask)
    return PackedSamples(folder)


def _map(file: Path) -> mmap.mmap:
    with file.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
