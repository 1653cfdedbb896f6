"""A picture of a raster for people, gathered while its windows pass."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.backends.base import Image
from unet_segmentation.inference.rasters.checkpoint import State
from unet_segmentation.inference.rasters.raster_writer import FinishedPart, RasterWriter
from unet_segmentation.utils.ignore_index import IGNORE_INDEX
from unet_segmentation.visualization import as_jpeg, overlay

LARGEST = 2048  # pixels a side


class OverlayWriter(RasterWriter):
    """A JPEG of every n-th pixel of a raster, with the classes in color; black where no window was read.

    Windows may come in any order, image and mask from two threads. What reaches beyond the raster is left out.
    """

    def __init__(self, path: Path, height: int, width: int, state: State) -> None:
        self._path, self._step = path, math.ceil(max(height, width) / LARGEST)
        size = math.ceil(height / self._step), math.ceil(width / self._step)
        self._image: NDArray[Any] | None = state.get("overlay.image")
        self._mask = state.get("overlay.mask", np.full(size, IGNORE_INDEX, np.uint8))

    def add_image(self, window: Image, top: int, left: int) -> None:
        """Add a window (height, width, channels) of the image."""
        if self._image is None:
            self._image = np.zeros((*self._mask.shape, window.shape[2]), window.dtype)
        self._put(self._image, window, top, left)

    def put(self, part: FinishedPart) -> None:
        """Add the classes of a part."""
        self._put(self._mask, part.mask, part.top, part.columns.start)

    def _put(self, whole: NDArray[Any], window: NDArray[Any], top: int, left: int) -> None:
        step = self._step
        seen = window[-top % step :: step, -left % step :: step]
        row, column = -(-top // step), -(-left // step)
        place = whole[row : row + seen.shape[0], column : column + seen.shape[1]]
        place[:] = seen[: place.shape[0], : place.shape[1]]

    def state(self) -> State:
        """Return what was gathered."""
        return {"overlay.mask": self._mask} | ({} if self._image is None else {"overlay.image": self._image})

    def finish(self) -> None:
        """Lay the classes' colors over the image, and write the file."""
        image = np.zeros((*self._mask.shape, 3), np.uint8) if self._image is None else self._image
        self._path.write_bytes(as_jpeg(overlay(image, self._mask)))
