"""Detect masks: do the pixels of a file look like those of a picture, or those of a mask?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import Raster, UnreadableError, read_raster
from unet_segmentation.data.io.image_reader import coloured
from unet_segmentation.data.io.matlab import read_matrices

FEW_VALUES = 32  # up to which a file looks like a mask, whatever its pixels
ALIKE = 2  # neighbouring values that differ by so little count as the same, as of masks in JPEG files
FLAT = 0.85  # share of neighbours that are the same, from which on a file looks like a mask


@dataclass(frozen=True)
class Look:
    """Whether a file looks like a mask.

    Attributes:
        size: height and width; None where the file cannot be read.
        mask: from 0, surely a picture, to 1, surely a mask.
        two: one value for the background and one more.
        problem: why it cannot be read; else empty.
    """

    size: tuple[int, int] | None
    mask: float = 0.0
    two: bool = False
    problem: str = ""


class PixelProbe:
    """Looks at files, at each once."""

    def __init__(self, storage: FileStore) -> None:
        self.storage = storage
        self._seen: dict[str, Look] = {}
        self._pages: dict[str, int] = {}

    def at(self, path: str) -> Look:
        """Return what a file looks like."""
        if path not in self._seen:
            self._seen[path] = self._look(path)
        return self._seen[path]

    def pages(self, path: str) -> int:
        """Count the pages of a file."""
        from unet_segmentation.data.io.image_decoders import count_pages

        if path not in self._pages:
            is_stack = path.lower().endswith((".tif", ".tiff", ".gif"))
            self._pages[path] = count_pages(self.storage, path) if is_stack else 1
        return self._pages[path]

    def _look(self, path: str) -> Look:
        try:
            raster = read_values(self.storage, path)
        except UnreadableError as error:
            return Look(None, problem=str(error))
        pixels = raster.pixels
        height, width = pixels.shape[:2]
        mask, two = mask_score(raster)
        return Look((height, width), mask, two)


def read_values(storage: FileStore, path: str, variable: str | None = None) -> Raster:
    """Read a file; of a `.mat` file with several matrices, the one that looks most like a mask.

    Raises:
        UnreadableError: it cannot be read.
    """
    if variable is None and path.lower().endswith(".mat"):
        variable = mask_variable(storage, path)
    return read_raster(storage, path, variable)


def mask_variable(storage: FileStore, path: str) -> str | None:
    """Return the name of the matrix of a `.mat` file that looks most like a mask; None where there are not several."""
    try:
        matrices = read_matrices(storage.read(path))
    except Exception:  # the reader of the mask reports what is wrong
        return None
    grids = {name: array for name, array in matrices.items() if array.ndim == 2 and min(array.shape) > 1}
    if len(grids) < 2:
        return None
    return max(grids, key=lambda name: (mask_score(Raster(grids[name], "MAT"))[0], grids[name].size))


def mask_score(raster: Raster) -> tuple[float, bool]:
    """Describe how much pixels look like a mask, and whether they hold two values."""
    pixels = coloured(raster)
    if raster.pixels.dtype == bool:
        return 1.0, True
    if pixels.ndim == 3 and pixels.shape[2] not in {1, 3}:
        return 0.0, False
    if pixels.dtype.kind == "f" and not _is_whole(pixels):
        return 0.0, False
    values = _distinct(pixels)
    if values <= FEW_VALUES:
        return 1.0, values <= 2
    flat = _flatness(pixels)
    ends = pixels.dtype == np.uint8 and float(((pixels < 32) | (pixels > 223)).mean()) > 0.98
    return (max(0.0, (flat - 0.5) / (FLAT - 0.5) * 0.8) if flat < FLAT else 0.9), ends


def _is_whole(pixels: NDArray) -> bool:
    return bool(np.isfinite(pixels).all() and (np.rint(pixels) == pixels).all())


def _distinct(pixels: NDArray) -> int:
    """Count values or colours, of a part of a large file."""
    if pixels.ndim == 3:
        weights = np.array([1, 256, 65536][: pixels.shape[2]])
        pixels = pixels.astype(np.int64) @ weights
    return len(np.unique(pixels))


def _flatness(pixels: NDArray) -> float:
    """Return the share of neighbours with (nearly) the same value."""
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    difference = np.abs(np.diff(pixels.astype(np.int64), axis=1)).max(axis=2)
    tolerance = ALIKE if pixels.dtype == np.uint8 else 0
    return float((difference <= tolerance).mean()) if difference.size else 1.0
