"""A picture of a raster for people, gathered while its windows pass."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.backends.base import Image, Mask
from unet_segmentation.utils.ignore_index import IGNORE_INDEX
from unet_segmentation.visualization import Picture, overlay

LARGEST = 2048  # pixels a side


class Preview:
    """Every n-th pixel of a raster and of its classes. Windows may come in any order, image and mask from two threads.

    Args:
        height: of the raster, in pixels.
        width: of the raster, in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self._step = math.ceil(max(height, width) / LARGEST)
        self._image: NDArray | None = None
        self._mask = np.full((math.ceil(height / self._step), math.ceil(width / self._step)), IGNORE_INDEX, np.uint8)

    def add_image(self, window: Image, top: int, left: int) -> None:
        """Add a window (height, width, channels); what reaches beyond the raster is left out."""
        if self._image is None:
            self._image = np.zeros((*self._mask.shape, window.shape[2]), window.dtype)
        self._put(self._image, window, top, left)

    def add_mask(self, window: Mask, top: int, left: int) -> None:
        """Add a window (height, width) of class ids, 255 where there is no data."""
        self._put(self._mask, window, top, left)

    def _put(self, whole: NDArray, window: NDArray, top: int, left: int) -> None:
        step = self._step
        seen = window[-top % step :: step, -left % step :: step]
        row, column = -(-top // step), -(-left // step)
        place = whole[row : row + seen.shape[0], column : column + seen.shape[1]]
        place[:] = seen[: place.shape[0], : place.shape[1]]

    def state(self) -> dict[str, NDArray]:
        """Return what was gathered, so that another preview can `restore` it."""
        image = {} if self._image is None else {"preview.image": self._image}
        return {**image, "preview.mask": self._mask}

    def restore(self, state: Mapping[str, NDArray]) -> None:
        """Resume from a `state`."""
        self._image, self._mask = state.get("preview.image"), state["preview.mask"]

    def picture(self) -> Picture:
        """Lay the classes' colours over the image; black where windows without any data were not read."""
        image = np.zeros((*self._mask.shape, 3), np.uint8) if self._image is None else self._image
        return overlay(image, self._mask)
