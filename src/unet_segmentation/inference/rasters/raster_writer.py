"""What the outputs of a raster have in common: they are written row of tiles by row of tiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.backends.base import Image, Mask, Probabilities
from unet_segmentation.inference.rasters.checkpoint import State


class FinishedPart(NamedTuple):
    """The part of a tile that no later tile will change."""

    probabilities: Probabilities  # (classes, height, width)
    mask: Mask  # (height, width) class ids, 255 where there is no data
    confidence: NDArray[np.float32]  # (height, width), the largest probability
    top: int  # row of the raster
    columns: slice  # of the raster


class RasterWriter(ABC):
    """One output of a raster."""

    def add_image(self, window: Image, top: int, left: int) -> None:  # noqa: B027 - most outputs do not show the image
        """Add a window (height, width, channels) of the image, from another thread than all else."""

    @abstractmethod
    def put(self, part: FinishedPart) -> None:
        """Add a finished part of the current row of tiles."""

    def end_row(self, row: int, height: int) -> None:  # noqa: B027 - not every output is written by rows
        """Write what became complete with a row of tiles, `height` pixels of it."""

    def state(self) -> State:
        """Return what another writer of this output needs to resume it."""
        return {}

    @abstractmethod
    def finish(self) -> None:
        """Complete the file."""

    def close(self) -> None:  # noqa: B027 - not every output holds a file open
        """Close the file, whole or not."""
