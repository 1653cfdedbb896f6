"""The connected regions of a raster, traced while its rows pass, each yielded when it is complete."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_segmentation.inference.backends.base import Mask
from unet_segmentation.inference.polygons.connected_components import begins_of_runs
from unet_segmentation.inference.polygons.contour_tracing import Ring, corner_points, trace_contours

logger = logging.getLogger(__name__)

STRIP = 1_000_000  # pixels that are processed together
TRACED = 100_000  # corners that are traced together, unless one region has more
LARGEST = 100_000  # corners of a region; a larger one is cut, as GDAL refuses GeoJSON with about twice as many in one
MOST = 1_000_000  # points of regions that still grow; where there are more, all are cut


class Region(NamedTuple):
    """A connected region."""

    class_id: int
    area: int  # in pixels
    confidence: float  # mean of the largest probability over its pixels
    polygons: list[list[Ring]]  # of each part the line around it, then those around its holes


@dataclass
class StreamingComponents:
    """Finds the regions of every class but 0, as `Regions` does, in a raster that comes from top to bottom.

    How borders run at a point depends on the four pixels around it, and on which of them belong together. These points
    are held until no part of their regions can grow any more; then they are traced. Memory holds the points of regions
    that still grow, whatever the raster's height.

    A part is what is connected by pixels' sides. The fields are all that is needed to resume.
    """

    above: Mask  # (1, width) the row before the one that comes next
    above_parts: NDArray[np.intp]  # (width,) parts that its pixels belong to, -1: none
    classes: NDArray[np.intp]  # of each part
    areas: NDArray[np.float64]  # of each part, whole numbers
    sums: NDArray[np.float64]  # of each part, of the largest probability
    points: NDArray[np.intp]  # see `corner_points`
    around: NDArray[np.int32]  # (4, points) parts around each point, -1: none
    top: int = 0  # row of the raster that comes next
    cuts: int = 0  # regions that were cut

    @classmethod
    def begin(cls, width: int) -> Self:
        """Begin a raster."""
        whole, real = np.empty(0, np.intp), np.empty(0)
        return cls(
            np.zeros((1, width), np.uint8), np.full(width, -1), whole, real, real, whole, np.empty((4, 0), np.int32)
        )

    def add(self, mask: Mask, confidence: NDArray[np.float32]) -> Iterator[Region]:
        """Add the next rows, and yield the regions that are complete.

        Args:
            mask: (height, width) class ids; 0 where there is no data.
            confidence: (height, width), the largest probability.
        """
        rows = max(1, STRIP // mask.shape[1])
        for start in range(0, len(mask), rows):
            strip = mask[start : start + rows]
            self._add(strip, confidence[start : start + rows])
            self.top += len(strip)
            yield from self._complete()

    def finish(self) -> Iterator[Region]:
        """Return the regions that reach the raster's end."""
        yield from self._complete(end=True)
        if self.cuts:
            logger.warning("Regions with more than %d corners were cut along rows, %d times", LARGEST, self.cuts)

    def _add(self, mask: Mask, confidence: NDArray[np.float32]) -> None:
        """Find the points above every one of these rows, and what their parts are."""
        width, count_before = mask.shape[1], len(self.classes)
        strip = np.concatenate([self.above, mask])
        begins = begins_of_runs(strip)
        starts, runs = np.flatnonzero(begins), np.cumsum(begins.ravel(), dtype=np.int32) - 1
        parts = count_before + _parts_of_runs(strip, begins, runs)
        new = int(np.searchsorted(starts, width))  # the runs before it were counted
        areas = np.diff(starts[new:], append=strip.size)
        sums = np.add.reduceat(confidence.ravel(), starts[new:] - width, dtype=np.float64)
        points, pixels = corner_points(strip)
        inside = slice(*np.searchsorted(points, [width + 1, len(strip) * (width + 1)]))
        around = np.where(pixels < 0, -1, parts[runs[pixels]])[:, inside].astype(np.int32)

        seen = np.flatnonzero(self.above_parts >= 0)
        merged = _connected((self.above_parts[seen], parts[runs[seen]]), int(parts.max()) + 1)
        owners = np.concatenate([np.arange(count_before), parts[new:]])
        count = int(merged.max()) + 1
        classes = np.zeros(count, np.intp)
        classes[merged[owners]] = np.concatenate([self.classes, strip.ravel()[starts[new:]]])
        self.classes = classes
        self.areas = np.bincount(merged[owners], np.concatenate([self.areas, areas]), count).astype(np.float64)
        self.sums = np.bincount(merged[owners], np.concatenate([self.sums, sums]), count).astype(np.float64)
        self.points = np.concatenate([self.points, points[inside] + (self.top - 1) * (width + 1)])
        self.around = _renumbered(np.concatenate([self.around, around], axis=1), merged)
        self.above = mask[-1:].copy()
        self.above_parts = np.where(self.above[0] > 0, merged[parts[runs[-width:]]], -1)

    def _complete(self, *, end: bool = False) -> Iterator[Region]:
        """Return the regions that cannot grow any more, and forget them; at the raster's end, all."""
        if not len(self.classes):
            return
        one, other = self.around[:2].ravel(), self.around[2:].ravel()  # across a point
        touching = (one >= 0) & (other >= 0) & (self.classes[one] == self.classes[other])
        regions = _connected((one[touching], other[touching]), len(self.classes))
        pixels = np.bincount(self.around[self.around >= 0], minlength=len(regions))
        corners = np.bincount(regions, pixels) / 2  # a corner has one pixel of its part inside it, or three
        closed = (corners > LARGEST) | end | (len(self.points) > MOST)
        cut = self._close(closed[regions])
        self.cuts += 0 if end else len(np.unique(regions[cut]))
        grows = np.zeros(len(corners), np.bool_)
        grows[regions[self.above_parts[self.above_parts >= 0]]] = True
        done = (self.classes > 0) & ~grows[regions]
        yield from self._traced(regions, done, corners)

        left = (self.classes > 0) & ~done
        numbers = np.where(left, np.cumsum(left) - 1, -1)
        around = _renumbered(self.around, numbers)
        active = (around >= 0).any(axis=0)
        self.points, self.around = self.points[active], around[:, active]
        self.above_parts = _renumbered(self.above_parts, numbers)
        self.classes, self.areas, self.sums = self.classes[left], self.areas[left], self.sums[left]

    def _close(self, parts: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Close parts below the last row; returns those of its pixels that are."""
        ending = np.append(parts, False)[self.above_parts]
        points, pixels = corner_points(np.where(ending, self.above, 0))
        width = self.above.shape[1]
        below = points > width  # the other points lie above the row
        around = np.where(pixels < 0, -1, self.above_parts[pixels])[:, below].astype(np.int32)
        self.points = np.concatenate([self.points, points[below] + (self.top - 1) * (width + 1)])
        self.around = np.concatenate([self.around, around], axis=1)
        closed = self.above_parts[ending]
        self.above, self.above_parts = np.where(ending, 0, self.above), np.where(ending, -1, self.above_parts)
        return closed

    def _traced(
        self, regions: NDArray[np.intp], done: NDArray[np.bool_], corners: NDArray[np.float64]
    ) -> Iterator[Region]:
        """Trace the borders of parts that are done, some at a time; `regions` has of each part its region."""
        width = self.above.shape[1]
        areas, sums = np.bincount(regions, self.areas), np.bincount(regions, self.sums)
        groups = np.where(done, (np.cumsum(corners) // TRACED)[regions], -1)
        for group in np.unique(groups[done]):
            around = _renumbered(self.around, np.where(groups == group, np.arange(len(groups)), -1))
            here = (around >= 0).any(axis=0)
            polygons: dict[int, list[list[Ring]]] = {}
            classes: dict[int, int] = {}
            for part, rings in trace_contours(self.points[here], around[:, here].astype(np.intp), width).items():
                polygons.setdefault(int(regions[part]), []).append(rings)
                classes[int(regions[part])] = int(self.classes[part])
            for region, parts in polygons.items():
                yield Region(classes[region], int(areas[region]), float(sums[region] / areas[region]), parts)


def _parts_of_runs(mask: Mask, begins: NDArray[np.bool_], runs: NDArray[np.int32]) -> NDArray[np.intp]:
    """Number the parts that runs of one class make where they lie above each other; of each run its part."""
    width, flat = mask.shape[1], mask.ravel()
    upper = np.flatnonzero(begins[:-1] | begins[1:])  # above or at a beginning: another pair of runs
    upper = upper[flat[upper] == flat[upper + width]]
    return _connected((runs[upper], runs[upper + width]), int(runs[-1]) + 1)


def _connected(pairs: Sequence[NDArray[np.intp]], count: int) -> NDArray[np.intp]:
    """Number the groups of `count` things of which pairs are connected; of each thing its group."""
    graph = coo_array((np.ones(len(pairs[0]), np.bool_), (pairs[0], pairs[1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.intp)


def _renumbered(parts: NDArray[Any], numbers: NDArray[np.intp]) -> NDArray[Any]:
    """Return parts their new numbers; -1 stays."""
    return np.append(numbers, -1).astype(parts.dtype)[parts]
