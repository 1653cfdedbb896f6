"""Metrics of the contours of classes: boundary IoU, Hausdorff distance, surface Dice.

The contour of a class are its pixels with a neighbor (of four) outside it; beyond the image everything is outside.
Distances are Euclidean, in pixels, from pixel center to pixel center.

An ignored pixel (255) cannot make an error: there the truth is taken to be what was predicted, and what lies in it, of
a contour or of a band along it, counts nowhere.

Each class is measured within its own bounding box, so that small classes cost little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from unet_segmentation.metrics.basis import Basis, CountTableBuilder, EvaluatedImage, EvaluationSettings, divided
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

BAND = 0.02  # of the image's diagonal: width of the band that boundary IoU compares (Cheng et al. 2021)
PERCENTILE = 95
COLUMNS: dict[str, dict[str, type]] = {  # of the table, by measure
    "boundary_iou": {"intersection": np.int64, "union": np.int64},
    "hd95": {"hd95": np.float64, "hd95_defined": np.int64},
    "surface_dice": {"within": np.int64, "contour": np.int64},
}
MEASURES = tuple(COLUMNS)

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]


def measure_boundaries(
    truth: NDArray[Any], prediction: NDArray[Any], classes: int, measures: Sequence[str], tolerance: float
) -> Values:
    """Measure the contours of one image.

    Args:
        truth: (height, width) class ids, 255 where a pixel counts nowhere.
        prediction: (height, width) class ids.
        classes: their number.
        measures: those of `MEASURES` to compute.
        tolerance: of the surface Dice, in pixels.

    Returns:
        (classes, columns), the columns as `COLUMNS` lists them for the measures; 0 in all where the class is neither
        in the truth nor in the prediction.
    """
    counted = truth != IGNORE_INDEX
    truth = np.where(counted, truth, prediction)
    diagonal = float(np.hypot(*truth.shape))
    result = np.zeros((classes, sum(len(COLUMNS[measure]) for measure in measures)))
    for number, box in _boxes(truth, prediction, classes):
        masks = truth[box] == number, prediction[box] == number
        values: dict[str, tuple[float, ...]] = {}
        if "boundary_iou" in measures:
            values["boundary_iou"] = band_overlap(*masks, counted[box], max(1, round(BAND * diagonal)))
        if "hd95" in measures or "surface_dice" in measures:
            distances = contour_distances(*masks, counted[box])
            within = sum(int((part <= tolerance).sum()) for part in distances)
            distance = hausdorff_distance(distances, diagonal)
            values["hd95"] = (np.nan_to_num(distance), not np.isnan(distance))
            values["surface_dice"] = (within, sum(part.size for part in distances))
        result[number] = [value for measure in measures for value in values[measure]]
    return result


def band_overlap(true: Mask, predicted: Mask, counted: Mask, width: int) -> tuple[int, int]:
    """Compare the bands of two masks along their contours: those of their pixels that `width` erosions take.

    An erosion takes the pixels with a neighbor (of eight) outside, as in the authors' own code.

    Returns:
        Pixels in both bands, pixels in one of them; of those that are counted.
    """
    size = 2 * width + 1
    bands = [
        mask & (ndimage.minimum_filter(mask.view(np.uint8), size, mode="constant") == 0) & counted
        for mask in (true, predicted)
    ]
    return int((bands[0] & bands[1]).sum()), int((bands[0] | bands[1]).sum())


def contour_distances(true: Mask, predicted: Mask, counted: Mask) -> tuple[Values, Values]:
    """Measure from every counted contour pixel of a mask to the nearest of the other's.

    Returns:
        Of the true contour's pixels to the predicted contour, and the other way round; infinite where the other mask
        has none.
    """
    first, second = _contour(true), _contour(predicted)
    return _distances(first & counted, second), _distances(second & counted, first)


def hausdorff_distance(distances: tuple[Values, Values], diagonal: float) -> float:
    """Return the larger of the two directions' 95th percentiles of `contour_distances`, in pixels.

    NaN where no contour pixel counts, the image's diagonal where only one of the masks has a contour.
    """
    parts = [part for part in distances if part.size]
    if not parts:
        return np.nan
    if any(np.isinf(part).any() for part in parts):
        return diagonal
    return float(max(np.percentile(part, PERCENTILE) for part in parts))


class Boundary(Basis):
    """What was measured of the contours in each image: a row for every class that is in one of the masks.

    Columns of the metrics that are asked for: intersection, union (pixels of the bands); hd95 (pixels of distance; 0
    where it is undefined) and hd95_defined (1 or 0); within (the tolerance), contour (pixels of both contours).
    """

    name, keys = "boundary", ("class",)
    columns: ClassVar = {name: dtype for columns in COLUMNS.values() for name, dtype in columns.items()}

    def __init__(self, settings: EvaluationSettings) -> None:
        super().__init__(settings)
        self.shape = (settings.n_classes,)
        self.measures = [measure for measure in MEASURES if measure in settings.boundary]

    @property
    def applies(self) -> bool:
        """Return whether any of the metrics is asked for."""
        return bool(self.measures)

    def table_builder(self) -> CountTableBuilder:
        """Return what builds the table, with the columns of the metrics that are asked for."""
        columns = {name: dtype for measure in self.measures for name, dtype in COLUMNS[measure].items()}
        return CountTableBuilder(self.keys, columns)

    def measure(self, image: EvaluatedImage) -> Values:
        """Measure one image: (classes, columns)."""
        settings = self.settings
        return measure_boundaries(image.truth, image.prediction, settings.n_classes, self.measures, settings.tolerance)

    def unit_sums(self, table: pd.DataFrame, sample_ids: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return for each metric of the table numerator and denominator of its ratio: (images, classes, 2).

        Boundary IoU is a ratio of pixels; the others are means over the images in which they are defined.
        """
        present = {name: list(columns) for name, columns in COLUMNS.items() if set(columns) <= set(table)}
        sums = {name: self.dense(table, sample_ids, columns) for name, columns in present.items()}
        if (surface := sums.get("surface_dice")) is not None:
            within, contour = surface[..., 0], surface[..., 1]
            sums["surface_dice"] = np.stack([np.nan_to_num(divided(within, contour)), contour > 0], axis=-1)
        return sums


def ratio(sums: NDArray[Any]) -> Values:
    """Divide the first by the second, (..., 2) to (...); NaN where there is nothing to divide by."""
    return divided(sums[..., 0], sums[..., 1])


def _boxes(truth: NDArray[Any], prediction: NDArray[Any], classes: int) -> Iterable[tuple[int, tuple[slice, slice]]]:
    """Yield each class that occurs, and the smallest box that holds all of it in both masks."""
    boxes_of_masks = [ndimage.find_objects(mask.astype(np.intp) + 1, max_label=classes) for mask in (truth, prediction)]
    for number, boxes in enumerate(zip(*boxes_of_masks, strict=True)):
        sides = list(zip(*(box for box in boxes if box is not None), strict=True))
        if sides:
            rows, columns = (slice(min(s.start for s in side), max(s.stop for s in side)) for side in sides)
            yield number, (rows, columns)


def _contour(mask: Mask) -> Mask:
    inner = np.zeros_like(mask)
    middle = mask[1:-1, 1:-1]
    inner[1:-1, 1:-1] = middle & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return mask & ~inner


def _distances(points: Mask, contour: Mask) -> Values:
    """Return each point's distance to a contour, infinite where there is none.

    A tree of the contour's pixels takes a half to a twelfth of a distance transform's time: contours are thin.
    """
    if not contour.any():
        return np.full(int(points.sum()), np.inf)
    distances, _ = KDTree(np.argwhere(contour)).query(np.argwhere(points))
    return np.asarray(distances, np.float64)
