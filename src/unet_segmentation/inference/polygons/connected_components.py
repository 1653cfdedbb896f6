"""Connected regions of a mask as polygons (GeoJSON) and as objects (COCO). The work grows with their borders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_segmentation.inference.backends.base import Mask
from unet_segmentation.inference.polygons.contour_tracing import Ring, corner_points, trace_contours


class Regions:
    """The connected regions of every class but 0, in the pixels of one image.

    Pixels that touch at a corner are one region, as in `scoring.objects`. A mask is taken as runs, pieces of its rows
    of one class: they are connected by their sides to parts, parts by their corners to regions.

    Attributes:
        class_ids: of the regions.
        areas: in pixels.
        confidences: mean of the largest probability over a region's pixels.
    """

    def __init__(self, mask: Mask, confidence: NDArray[np.float32]) -> None:
        """Find them.

        Args:
            mask: (height, width) class ids.
            confidence: (height, width), the largest probability.
        """
        begins = begins_of_runs(mask)
        self._mask, self._starts = mask, np.flatnonzero(begins)
        self._runs = np.cumsum(begins.ravel(), dtype=np.int32) - 1  # of each pixel its run
        self._parts = parts_of_runs(mask, begins, self._runs)
        self._points, pixels = corner_points(mask)
        self._around = np.where(pixels < 0, -1, self._parts_at(pixels))
        self._regions, self.class_ids = self._join()
        regions = self._regions[self._parts] + 1  # 0: none
        lengths, count = np.diff(self._starts, append=mask.size), len(self.class_ids) + 1
        self.areas = np.bincount(regions, lengths, count)[1:].astype(np.int64)
        sums = np.add.reduceat(confidence.ravel(), self._starts)
        self.confidences = np.bincount(regions, sums, count)[1:] / np.maximum(self.areas, 1)

    def _parts_at(self, pixels: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the parts that pixels (flat indices) lie in."""
        return self._parts[self._runs[pixels]]

    def _join(self) -> tuple[NDArray[np.intp], list[int]]:
        """Return the region of each part, -1 of class 0, and the regions' classes, which increase."""
        class_of_part = np.zeros(self._parts.max() + 1, np.intp)
        class_of_part[self._parts] = self._mask.ravel()[self._starts]
        one, other = self._around[:2].ravel(), self._around[2:].ravel()  # across a point
        touching = (one >= 0) & (other >= 0) & (class_of_part[one] == class_of_part[other])
        groups = connected((one[touching], other[touching]), len(class_of_part))
        class_of_group = np.zeros(groups.max() + 1, np.intp)
        class_of_group[groups] = class_of_part
        order = np.argsort(class_of_group, kind="stable")[np.count_nonzero(class_of_group == 0) :]
        numbers = np.full(len(class_of_group), -1)
        numbers[order] = np.arange(len(order))
        return numbers[groups], class_of_group[order].tolist()

    def features(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return a GeoJSON FeatureCollection in pixels: x to the right, y down, (0, 0) the image's upper left corner.

        Each region is a MultiPolygon along the pixels' edges; holes are kept. Parts that touch at a corner only are
        polygons of their own in it, as GeoJSON asks. Their rings are arrays (N, 2), which orjson writes as lists.
        """
        regions: list[list[list[Ring]]] = [[] for _ in self.class_ids]
        for part, rings in trace_contours(self._points, self._around, self._mask.shape[1]).items():
            regions[self._regions[part]].append(rings)
        properties = zip(self.class_ids, self.areas.tolist(), self.confidences.tolist(), strict=True)
        return {
            "type": "FeatureCollection",
            "features": [
                feature(coordinates, classes[class_id], class_id, area, confidence)
                for coordinates, (class_id, area, confidence) in zip(regions, properties, strict=True)
            ],
        }

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Return each region as a COCO annotation, without ids: its mask as an uncompressed run-length code."""
        if not self.class_ids:
            return
        height, width = self._mask.shape
        turned = np.ascontiguousarray(self._mask.T)  # COCO goes column by column
        starts = np.flatnonzero(begins_of_runs(turned))
        stops = np.append(starts[1:], turned.size)
        x, y = np.divmod(starts, height)
        regions = self._regions[self._parts_at(y * width + x)]
        order = np.argsort(regions, kind="stable")[np.count_nonzero(regions < 0) :]
        runs = _Runs(regions[order], starts[order], stops[order])
        boxes, counts = runs.boxes(height), runs.merged().counts(turned.size)
        for class_id, area, confidence, box, code in zip(
            self.class_ids, self.areas.tolist(), self.confidences.tolist(), boxes, counts, strict=True
        ):
            yield {
                "category_id": class_id,
                "segmentation": {"size": [height, width], "counts": code},
                "area": area,
                "bbox": box,
                "iscrowd": 0,
                "score": round(confidence, 4),
            }


class _Runs(NamedTuple):
    """Pieces of columns, sorted by region, then by place; at least one.

    Attributes:
        regions: (N,) that they belong to; all from 0 on have some.
        starts: (N,) flat indices, column by column.
        stops: (N,) flat indices.
    """

    regions: NDArray[np.intp]
    starts: NDArray[np.intp]
    stops: NDArray[np.intp]

    @property
    def firsts(self) -> NDArray[np.intp]:
        """Return the first run of each region."""
        return np.flatnonzero(np.diff(self.regions, prepend=-1))

    def boxes(self, height: int) -> list[list[int]]:
        """Return x, y, width and height of each region, while no run goes from one column to the next."""
        first = self.firsts
        columns, tops, bottoms = self.starts // height, self.starts % height, (self.stops - 1) % height + 1
        left, right = np.minimum.reduceat(columns, first), np.maximum.reduceat(columns, first) + 1
        top, bottom = np.minimum.reduceat(tops, first), np.maximum.reduceat(bottoms, first)
        return np.stack([left, top, right - left, bottom - top], axis=1).tolist()

    def merged(self) -> _Runs:
        """Join runs where one begins at the top of a column and the one before ends at the bottom of the last."""
        apart = (self.regions[1:] != self.regions[:-1]) | (self.stops[:-1] != self.starts[1:])
        begins, ends = np.append(True, apart), np.append(apart, True)
        return _Runs(self.regions[begins], self.starts[begins], self.stops[ends])

    def counts(self, size: int) -> Iterator[list[int]]:
        """Return the run-length code of each region: pixels outside and inside by turns, beginning outside.

        Args:
            size: of the image, in pixels.
        """
        lengths = np.diff(np.stack([self.starts, self.stops], axis=1).ravel(), prepend=0)
        first = self.firsts
        lengths[2 * first] = self.starts[first]
        codes, last = lengths.tolist(), np.append(first[1:], len(self.starts))
        for begin, end in zip(first.tolist(), last.tolist(), strict=True):
            rest = size - int(self.stops[end - 1])
            yield codes[2 * begin : 2 * end] + ([rest] if rest else [])


def feature(
    coordinates: Sequence[Sequence[NDArray]], name: str, class_id: int, area: int, confidence: float
) -> dict[str, Any]:
    """Return a GeoJSON Feature of a region; `coordinates` holds the rings (N, 2) of each of its parts."""
    return {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": coordinates},
        "properties": {"class": name, "class_id": class_id, "area": area, "confidence": round(confidence, 4)},
    }


def begins_of_runs(mask: Mask) -> NDArray[np.bool_]:
    """Return where runs begin: with each row, and where the class changes."""
    begins = np.ones(mask.shape, np.bool_)
    np.not_equal(mask[:, 1:], mask[:, :-1], out=begins[:, 1:])
    return begins


def parts_of_runs(mask: Mask, begins: NDArray[np.bool_], runs: NDArray[np.int32]) -> NDArray[np.intp]:
    """Number the parts that runs of one class make where they lie above each other; of each run its part."""
    width, flat = mask.shape[1], mask.ravel()
    upper = np.flatnonzero(begins[:-1] | begins[1:])  # above or at a beginning: another pair of runs
    upper = upper[flat[upper] == flat[upper + width]]
    return connected((runs[upper], runs[upper + width]), int(runs[-1]) + 1)


def connected(pairs: Sequence[NDArray[np.intp]], count: int) -> NDArray[np.intp]:
    """Number the groups of `count` things of which pairs are connected; of each thing its group."""
    graph = coo_array((np.ones(len(pairs[0]), np.bool_), (pairs[0], pairs[1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.intp)


def coco_head(classes: Sequence[str]) -> dict[str, Any]:
    """Return the parts of a COCO file that do not grow with the images; category ids are class ids, from 1."""
    categories = [{"id": number, "name": name} for number, name in enumerate(classes) if number]
    return {"info": {"description": "predicted by unet-segmentation"}, "licenses": [], "categories": categories}


def coco_images(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the image entries of a COCO file; ids count from 1 in the rows' order."""
    for number, row in enumerate(rows, start=1):
        yield {"id": number, "file_name": row["image"], "height": row["height"], "width": row["width"]}
