"""Detect masks: do the pixels of a file look like those of a picture, or those of a mask?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.io.filesystem import FileStore
from unet_segmentation.data.io.image_decoders import Raster, UnreadableError, count_pages, read_raster
from unet_segmentation.data.io.image_reader import colored
from unet_segmentation.data.io.matlab import read_matrices

FEW_VALUES = 32  # up to which a file looks like a mask, whatever its pixels
ALIKE = 2  # neighboring values that differ by so little count as the same, as of masks in JPEG files
FLAT = 0.85  # share of neighbors that are the same, from which on a file looks like a mask


@dataclass(frozen=True)
class MaskLikeness:
    """Whether a file looks like a mask."""

    size: tuple[int, int] | None  # height and width; None where the file cannot be read
    score: float = 0.0  # from 0, surely a picture, to 1, surely a mask
    has_two_values: bool = False


class PixelProbe:
    """Describes files by their pixels, each once: `score_mask` and `count_pages` of a path."""

    def __init__(self, storage: FileStore) -> None:
        self.storage = storage
        self.score_mask = cache(self._score_mask)
        self.count_pages = cache(self._count_pages)

    def _count_pages(self, path: str) -> int:
        return count_pages(self.storage, path) if path.lower().endswith((".tif", ".tiff", ".gif")) else 1

    def _score_mask(self, path: str) -> MaskLikeness:
        try:
            raster = read_values(self.storage, path)
        except UnreadableError:
            return MaskLikeness(None)
        height, width = raster.pixels.shape[:2]
        return MaskLikeness((height, width), *mask_score(raster))


def read_values(storage: FileStore, path: str) -> Raster:
    """Read a file; of a `.mat` file with several matrices, the one that looks most like a mask.

    Raises:
        UnreadableError: it cannot be read.
    """
    return read_raster(storage, path, mask_variable(storage, path) if path.lower().endswith(".mat") else None)


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
    """Describe how much pixels look like a mask (0 to 1), and whether they hold two values."""
    pixels = colored(raster)
    if raster.pixels.dtype == bool:
        return 1.0, True
    if pixels.ndim == 3 and pixels.shape[2] not in {1, 3}:
        return 0.0, False
    if pixels.dtype.kind == "f" and not (np.isfinite(pixels).all() and (np.rint(pixels) == pixels).all()):
        return 0.0, False
    planes = pixels if pixels.ndim == 3 else pixels[:, :, None]
    values = len(np.unique(planes.astype(np.int64) @ np.array([1, 256, 65536][: planes.shape[2]])))
    if values <= FEW_VALUES:
        return 1.0, values <= 2
    flat = _flatness(planes)
    ends = pixels.dtype == np.uint8 and float(((pixels < 32) | (pixels > 223)).mean()) > 0.98
    return (max(0.0, (flat - 0.5) / (FLAT - 0.5) * 0.8) if flat < FLAT else 0.9), ends


def _flatness(planes: NDArray[Any]) -> float:
    """Return the share of neighbors with (nearly) the same value, of (height, width, channels)."""
    difference = np.abs(np.diff(planes.astype(np.int64), axis=1)).max(axis=2)
    tolerance = ALIKE if planes.dtype == np.uint8 else 0
    return float((difference <= tolerance).mean()) if difference.size else 1.0
