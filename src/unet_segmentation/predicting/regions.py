"""Connected regions of a mask as polygons (GeoJSON) and as objects (COCO)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_segmentation.predicting.backend import Mask

NEIGHBOURS = np.ones((3, 3), np.uint8)  # pixels that touch at a corner are one region, as in `scoring.objects`


class Regions:
    """The connected regions of every class but 0, in the pixels of one image.

    Attributes:
        labels: (height, width) int32: 0 outside, else the number of the region, from 1.
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
        self.labels: NDArray[np.int32] = np.zeros(mask.shape, np.int32)
        class_ids: list[int] = []
        for class_id in np.unique(mask[mask > 0]):
            found, count = ndimage.label(mask == class_id, structure=NEIGHBOURS)
            self.labels[found > 0] = found[found > 0] + len(class_ids)
            class_ids += [int(class_id)] * count
        self.class_ids = class_ids
        flat = self.labels.ravel()
        self.areas = np.bincount(flat, minlength=len(class_ids) + 1)[1:]
        sums = np.bincount(flat, weights=confidence.ravel(), minlength=len(class_ids) + 1)[1:]
        self.confidences = sums / np.maximum(self.areas, 1)

    def features(self, classes: Sequence[str]) -> dict[str, Any]:
        """Give a GeoJSON FeatureCollection in pixels: x to the right, y down, (0, 0) the image's upper left corner.

        Each region is a MultiPolygon along the pixels' edges; holes are kept. Parts that touch at a corner only are
        polygons of their own in it, as GeoJSON asks.
        """
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.features import shapes

        warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # these polygons lie in pixels
        parts: list[list[Any]] = [[] for _ in self.class_ids]
        for geometry, number in shapes(self.labels, mask=self.labels > 0, connectivity=4):
            parts[int(number) - 1].append(geometry["coordinates"])
        return {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "geometry": {"type": "MultiPolygon", "coordinates": polygons},
                    "properties": {
                        "class": classes[class_id],
                        "class_id": class_id,
                        "area": int(area),
                        "confidence": round(float(confidence), 4),
                    },
                }
                for polygons, class_id, area, confidence in zip(
                    parts, self.class_ids, self.areas, self.confidences, strict=True
                )
            ],
        }

    def annotations(self) -> Iterator[dict[str, Any]]:
        """Give each region as a COCO annotation, without ids: its mask as an uncompressed run-length code."""
        height, width = self.labels.shape
        boxes = ndimage.find_objects(self.labels)
        for number, (class_id, box) in enumerate(zip(self.class_ids, boxes, strict=True), start=1):
            rows, columns = box
            yield {
                "category_id": class_id,
                "segmentation": {
                    "size": [height, width],
                    "counts": _runs(self.labels[box] == number, rows.start, columns.start, height, width),
                },
                "area": int(self.areas[number - 1]),
                "bbox": [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start],
                "iscrowd": 0,
                "score": round(float(self.confidences[number - 1]), 4),
            }


def _runs(inside: NDArray[np.bool_], top: int, left: int, height: int, width: int) -> list[int]:
    """Count pixels outside and inside by turns, column by column from the left, as COCO does, beginning outside.

    Args:
        inside: the region in its box.
        top: first row of the box.
        left: its first column.
        height: of the image.
        width: of the image.
    """
    columns = np.zeros((inside.shape[1], height), np.bool_)
    columns[:, top : top + inside.shape[0]] = inside.T
    flat = np.concatenate([[False], columns.ravel(), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + left * height
    edges = np.concatenate([[0], changes, [height * width]])
    counts = np.diff(edges)
    return [int(count) for count in (counts if counts[-1] else counts[:-1])]


def coco_head(classes: Sequence[str]) -> dict[str, Any]:
    """Give the parts of a COCO file that do not grow with the images; category ids are class ids, from 1."""
    categories = [{"id": number, "name": name} for number, name in enumerate(classes) if number]
    return {"info": {"description": "predicted by unet-segmentation"}, "licenses": [], "categories": categories}


def coco_images(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give the image entries of a COCO file; ids count from 1 in the rows' order."""
    for number, row in enumerate(rows, start=1):
        yield {"id": number, "file_name": row["image"], "height": row["height"], "width": row["width"]}
