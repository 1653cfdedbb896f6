"""Connected regions of a mask as polygons (GeoJSON) and as objects (COCO)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_segmentation.inference.backends.base import Mask
from unet_segmentation.inference.polygons.contour_tracing import Ring, corner_points, trace_contours


class Regions:
    """The connected regions of every class but 0, in the pixels of one image; sorted by class, then by first pixel.

    Pixels that touch at a corner are one region, as in `metrics.object_recall`; what is connected by pixels' sides is a
    part of it.

    Args:
        mask: (height, width) class ids.
        confidence: (height, width), the largest probability.

    Attributes:
        class_ids: of the regions.
        areas: in pixels.
        confidences: mean of the largest probability over a region's pixels.
    """

    def __init__(self, mask: Mask, confidence: NDArray[np.float32]) -> None:
        self._mask = mask
        self._regions = np.zeros(mask.shape, np.int32)  # of each pixel its region, from 1
        self._parts = np.zeros(mask.shape, np.int32)  # of each pixel its part, from 1
        self.class_ids: list[int] = []
        parts = 0
        for class_id in np.flatnonzero(np.bincount(mask[mask > 0])).tolist():
            inside = mask == class_id
            labels, count = ndimage.label(inside, np.ones((3, 3)))
            self._regions[inside] = labels[inside] + len(self.class_ids)
            self.class_ids += [class_id] * count
            labels, count = ndimage.label(inside)
            self._parts[inside] = labels[inside] + parts
            parts += count
        starts = np.flatnonzero(begins_of_runs(mask))
        owners, lengths = self._regions.ravel()[starts], np.diff(starts, append=mask.size)
        self.areas = np.bincount(owners, lengths, len(self.class_ids) + 1)[1:].astype(np.int64)
        sums = np.bincount(owners, np.add.reduceat(confidence.ravel(), starts), len(self.class_ids) + 1)[1:]
        self.confidences = sums / np.maximum(self.areas, 1)

    def features(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return a GeoJSON FeatureCollection in pixels: x to the right, y down, (0, 0) the image's upper left corner.

        Each region is a MultiPolygon along the pixels' edges; holes are kept. Parts that touch at a corner only are
        polygons of their own in it, as GeoJSON asks. Their rings are arrays (N, 2), which orjson writes as lists.
        """
        points, pixels = corner_points(self._mask)
        around = np.where(pixels < 0, -1, self._parts.ravel()[pixels])
        region_of_part = np.zeros(self._parts.max() + 1, np.intp)
        region_of_part[self._parts.ravel()] = self._regions.ravel()
        polygons: list[list[list[Ring]]] = [[] for _ in self.class_ids]
        for part, rings in trace_contours(points, around, self._mask.shape[1]).items():
            polygons[region_of_part[part] - 1].append(rings)
        properties = zip(self.class_ids, self.areas.tolist(), self.confidences.tolist(), strict=True)
        return {
            "type": "FeatureCollection",
            "features": [
                feature(coordinates, classes[class_id], class_id, area, confidence)
                for coordinates, (class_id, area, confidence) in zip(polygons, properties, strict=True)
            ],
        }

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Yield each region as a COCO annotation, without ids: its mask as an uncompressed run-length code."""
        height, size = len(self._mask), self._mask.size
        boxes = ndimage.find_objects(self._regions)
        properties = zip(self.class_ids, self.areas.tolist(), self.confidences.tolist(), boxes, strict=True)
        for number, (class_id, area, confidence, (rows, columns)) in enumerate(properties, start=1):
            x, width = columns.start, columns.stop - columns.start
            inside = np.zeros(width * height + 2, np.bool_)  # column by column, one pixel more at both ends
            inside[1:-1].reshape(width, height)[:, rows] = (self._regions[rows, columns] == number).T
            changes = np.flatnonzero(inside[1:] != inside[:-1]) + x * height
            counts = [int(changes[0]), *(changes[1:] - changes[:-1]).tolist(), size - int(changes[-1])]
            yield {
                "category_id": class_id,  # `counts`: pixels outside and inside by turns
                "segmentation": {"size": list(self._mask.shape), "counts": counts if counts[-1] else counts[:-1]},
                "area": area,
                "bbox": [x, rows.start, width, rows.stop - rows.start],
                "iscrowd": 0,
                "score": round(confidence, 4),
            }


def begins_of_runs(mask: Mask) -> NDArray[np.bool_]:
    """Return where runs of one class begin: with each row, and where the class changes."""
    begins = np.ones(mask.shape, np.bool_)
    np.not_equal(mask[:, 1:], mask[:, :-1], out=begins[:, 1:])
    return begins


def feature(
    coordinates: Sequence[Sequence[NDArray[Any]]], name: str, class_id: int, area: int, confidence: float
) -> dict[str, Any]:
    """Return a GeoJSON Feature of a region; `coordinates` holds the rings (N, 2) of each of its parts."""
    return {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": coordinates},
        "properties": {"class": name, "class_id": class_id, "area": area, "confidence": round(confidence, 4)},
    }


def coco_head(classes: Sequence[str]) -> dict[str, Any]:
    """Return the parts of a COCO file that do not grow with the images; category ids are class ids, from 1."""
    categories = [{"id": number, "name": name} for number, name in enumerate(classes) if number]
    return {"info": {"description": "predicted by unet-segmentation"}, "licenses": [], "categories": categories}


def coco_images(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the image entries of a COCO file; ids count from 1 in the rows' order."""
    for number, row in enumerate(rows, start=1):
        yield {"id": number, "file_name": row["image"], "height": row["height"], "width": row["width"]}
