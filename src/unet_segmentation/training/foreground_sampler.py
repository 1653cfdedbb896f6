"""Patches centered on chosen classes: after one pass over a mask, a pixel is drawn by reading a strip of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.data.store.packed_arrays import PackedSamples
from unet_segmentation.parameters.base import StrictModel


class ForegroundSampling(StrictModel):
    """Which patches are centered on a pixel of a chosen class."""

    share: float = 0.0  # of the patches
    class_ids: tuple[int, ...] = ()  # with none, all patches are cut anywhere


STRIP = 1 << 14  # pixels, about, that are read to draw one (what is drawn does not depend on it)


class ForegroundSampler:
    """Draws pixels of chosen classes.

    The first time that a sample is asked for, its mask is read once, strip by strip, and the pixels of each class are
    counted per strip: 8 bytes per class and strip are remembered, 1/2000 of the mask for each class. What is drawn does
    not depend on what is remembered.
    """

    def __init__(self, samples: PackedSamples, classes: Sequence[int]) -> None:
        self.samples = samples
        self.classes = list(classes)
        self._counted: dict[str, NDArray[np.int64]] = {}

    def draw(self, sample_id: str, generator: np.random.Generator) -> tuple[int, int] | None:
        """Draw a class among the chosen ones that the sample has, each equally often, then any of its pixels.

        The classes are drawn as nnU-Net draws them (Isensee et al. 2021), but pixels out of all, not out of 10,000.
        Return row and column; None where the sample has none of the classes.
        """
        totals = self._totals(sample_id)
        present = np.flatnonzero(totals[:, -1])
        if not present.size:
            return None
        place = present[generator.integers(present.size)]
        number = generator.integers(totals[place, -1])
        strip = int(np.searchsorted(totals[place], number, side="right")) - 1
        rows, pixels = self._strip(sample_id, strip)
        pixel = np.flatnonzero(pixels == self.classes[place])[number - totals[place, strip]]
        row, column = divmod(int(pixel), pixels.shape[1])
        return rows.start + row, column

    def _totals(self, sample_id: str) -> NDArray[np.int64]:
        """Count the pixels of each class in all strips before each one, and at last in all: (classes, strips + 1)."""
        if sample_id not in self._counted:
            height, width, _ = self.samples.shape(sample_id)
            counts = np.zeros((len(self.classes), -(-height // _rows(width)) + 1), np.int64)
            for strip in range(counts.shape[1] - 1):
                _, pixels = self._strip(sample_id, strip)
                counts[:, strip + 1] = [np.count_nonzero(pixels == number) for number in self.classes]
            self._counted[sample_id] = counts.cumsum(axis=1)
        return self._counted[sample_id]

    def _strip(self, sample_id: str, number: int) -> tuple[slice, NDArray[np.uint8]]:
        rows = _rows(self.samples.shape(sample_id)[1])
        where = slice(number * rows, (number + 1) * rows)
        return where, self.samples.mask(sample_id, where)


def _rows(width: int) -> int:
    return max(1, STRIP // width)
