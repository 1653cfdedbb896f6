"""Where the tiles of a raster lie, and what each counts: along one side, as both are separable. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unet_segmentation.inference.sliding_window import gaussian, round_up_to_multiple


class Span(NamedTuple):
    """The place of a tile along one side, in pixels."""

    start: int
    size: int

    @property
    def stop(self) -> int:
        """Return where it ends."""
        return self.start + self.size


def place_tiles(length: int, tile: int, overlap: float, multiple: int) -> list[Span]:
    """Place tiles along a side so that they cover it with as little work as the overlap allows.

    As many tiles as are needed, and no larger than needed: their sides differ by at most one `multiple`, the larger
    ones first, and their sum exceeds length + overlaps by less than one `multiple`. Tiles of one side only would do up
    to a whole tile more. From eight tiles on, work done over work needed is so at most 1.15 a side with an overlap of
    an eighth (tiles of 512, multiples of 32), whatever the length.

    Args:
        length: of the side, in pixels.
        tile: side of a tile, at most; a multiple of `multiple`.
        overlap: share of `tile` that neighbors share at least; 0 to 0.5.
        multiple: that height and width of a tile must be divisible by.

    Returns:
        The tiles; starts and ends increase. One tile, which reaches beyond the end, where the length is at most `tile`.
    """
    if length <= tile:
        return [Span(0, round_up_to_multiple(length, multiple))]
    shared = int(tile * overlap)
    count = math.ceil((length - shared) / (tile - shared))
    size, larger = divmod(round_up_to_multiple(length + (count - 1) * shared, multiple) // multiple, count)
    sizes = [(size + 1) * multiple] * larger + [size * multiple] * (count - larger)
    if sizes[-1] < max(tile // 2, 2 * shared):  # small multiples of `multiple`, or much overlap
        sizes = [tile] * count
    before = np.cumsum([0, *sizes[:-1]])
    steps = np.arange(count) / (count - 1)
    starts = before - np.rint(steps * (sum(sizes) - length)).astype(int)
    return [Span(int(start), size) for start, size in zip(starts, sizes, strict=True)]


def blending_profiles(spans: Sequence[Span]) -> list[NDArray[np.float32]]:
    """Weigh the pixels (size,) of every tile along one side: Gaussian, as `blending_weights`, summing to 1 in a pixel.

    The weights of a tile are the outer product of its profiles along both sides: sums over tiles in rows and columns
    factor in the same way, so nothing need be divided afterwards.
    """
    total = np.zeros(max(span.stop for span in spans))
    for span in spans:
        total[span.start : span.stop] += gaussian(span.size)
    return [(gaussian(span.size) / total[span.start : span.stop]).astype(np.float32) for span in spans]
