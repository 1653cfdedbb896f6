"""Recall by object size: how many of the true objects are found, small and large ones apart.

An object is a connected component of a foreground class in the true mask (8-neighborhood). It is found where more than
half of its pixels are predicted as its class. Its size is the diameter of the circle of equal area, in pixels.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_segmentation.metrics.basis import Basis, EvaluatedImage, EvaluationSettings, divided
from unet_segmentation.utils.ignore_index import IGNORE_INDEX

EDGES = (8, 16, 32, 64, 128)  # pixels of diameter; a size holds its lower edge
SIZES = ("below_8", "8_to_16", "16_to_32", "32_to_64", "64_to_128", "128_and_more")  # as they stand in metric names
NEIGHBORS = np.ones((3, 3), np.uint8)
FOUND = 0.5  # of an object's pixels, exceeded


def count_objects(truth: NDArray[Any], prediction: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Count the objects of one image (height, width) by class and size; ignored pixels belong to no object.

    Returns:
        (classes, sizes, 2): objects, and how many of them are found. Of class 0, the background, there are none.
    """
    counts = np.zeros((classes, len(SIZES), 2), np.int64)
    boxes = ndimage.find_objects(np.where(truth == IGNORE_INDEX, 0, truth).astype(np.intp), max_label=classes - 1)
    for number, box in enumerate(boxes, start=1):
        if box is None:
            continue
        mask = truth[box] == number
        labels, objects = ndimage.label(mask, NEIGHBORS)
        inside = labels[mask]
        area = np.bincount(inside, minlength=objects + 1)[1:]
        tp = np.bincount(inside[prediction[box][mask] == number], minlength=objects + 1)[1:]
        size = np.searchsorted(EDGES, np.sqrt(4 * area / np.pi), side="right")
        np.add.at(counts[number, :, 0], size, 1)
        np.add.at(counts[number, :, 1], size, tp > FOUND * area)
    return counts


class Objects(Basis):
    """The objects of each image, and those that are found: a row for every class and size with an object."""

    name, keys = "objects", ("class", "size")
    columns: ClassVar = {"objects": np.int64, "found": np.int64}

    def __init__(self, settings: EvaluationSettings) -> None:
        super().__init__(settings)
        self.shape = (settings.n_classes, len(SIZES))

    def measure(self, image: EvaluatedImage) -> NDArray[np.int64]:
        """Measure one image: (classes, sizes, 2)."""
        return count_objects(image.truth, image.prediction, self.settings.n_classes)


def recall(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Divide found by all, (..., 2) to (...); NaN where there is no object."""
    return divided(counts[..., 1], counts[..., 0])
